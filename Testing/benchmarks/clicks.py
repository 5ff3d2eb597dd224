"""How many clicks a slice needs, from an empty start and from a proxy prompt's result: Docs/results/clicks.md.

    python Testing/benchmarks/clicks.py measure DATA_FOLDER --part test --scores clicks_test.json
    python Testing/benchmarks/clicks.py table clicks_test.json

A simulated user puts the next click in the middle of the largest error, until Dice is 0.90 or ten clicks are given.
Each slice that shows an object (at most --slices of a volume, evenly spread) is corrected from both starts with the
same model. The file of scores grows by target, so that a stopped measurement continues with the same command.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs, support_set
from ProxyPromptSegmentLib.evaluation.broad.tasks import TEST, VALIDATION, Task, tasks_of
from ProxyPromptSegmentLib.evaluation.clicks import GOOD, MOST_CLICKS, Course, corrected_by_clicks
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.inference.segmenter import Segmenter

SETS = ("promise12", "psfhs", "drishti_gs")
EMPTY, PROXY = "empty", "proxy prompt"
LEAST_AREA = 64  # pixels; smaller cross-sections are hardly worth a click
REDRAWN = 2000  # draws of patients for an interval


def slices_of(case: Case, number: int, most: int) -> list[int]:
    """Slices on which an object is large enough, evenly spread."""
    shown = np.flatnonzero(case.masks[:, number].sum(axis=(1, 2)) >= LEAST_AREA)
    return shown[np.unique(np.linspace(0, len(shown) - 1, most).round().astype(int))].tolist() if len(shown) else []


def courses(segmenter: Segmenter, task: Task, case: Case, options: argparse.Namespace) -> list[dict]:
    """A row for each slice, object and start."""
    prepared = segmenter.prepare(support_set(draw_pairs(task.pool, case, options.supports, options.draw), case))
    window = intensity_window(case.images)
    spacing = (1.0, 1.0) if case.spacing_mm is None else (case.spacing_mm[1], case.spacing_mm[2])
    rows = []
    for number, name in enumerate(case.objects):
        for index in slices_of(case, number, options.slices):
            truth = case.masks[index, number]
            encoded = segmenter.encode(case.images[index : index + 1], window, spacing)
            prediction = segmenter.predict(encoded, prepared)[0]
            prompt = segmenter.prompt(encoded, prepared)
            starts: dict[str, Course] = {
                EMPTY: corrected_by_clicks(segmenter, encoded, truth, good=options.good),
                PROXY: corrected_by_clicks(segmenter, encoded, truth, prediction, prompt, number, options.good),
            }
            rows += [
                {
                    "dataset": task.dataset,
                    "object": name,
                    "case": case.name,
                    "unit": task.unit(case),
                    "slice": index,
                    "start": start,
                    "dice": [round(value, 4) for value in course.dice],
                }
                for start, course in starts.items()
            ]
    return rows


def measure(options: argparse.Namespace) -> None:
    """Measures what the file of scores does not hold yet, for at most the minutes given."""
    loaded = load(options.model)
    facts = {
        "model": loaded.facts.name, "sha256": loaded.facts.sha256, "part": options.part, "supports": options.supports,
        "draw": options.draw, "slices": options.slices, "good": options.good, "most": MOST_CLICKS,
    }  # fmt: skip
    stored: dict = {"facts": facts, "done": [], "rows": []}
    if options.scores.exists():
        stored = json.loads(options.scores.read_text(encoding="utf-8"))
        if stored["facts"] != facts:
            sys.exit(f"{options.scores} holds scores of {stored['facts']}, not of {facts}; give another file.")
    end = time.monotonic() + 60 * options.minutes
    for task in tasks_of(options.data, options.sets, options.part, options.limit):
        for case in task.targets:
            unit = f"{task.dataset}/{case.name}"
            if unit in stored["done"]:
                continue
            if time.monotonic() > end:
                sys.exit("the time is over; the same command continues.")
            stored["rows"] += courses(loaded.segmenter, task, case, options)
            stored["done"].append(unit)
            options.scores.write_text(json.dumps(stored), encoding="utf-8")
    print("complete", flush=True)


def needed(row: dict, good: float, most: int) -> int:
    """Clicks of a row; one more than allowed where they were not enough."""
    return len(row["dice"]) - 1 if row["dice"][-1] >= good else most + 1


def interval(by_unit: dict[str, list[float]], value, seed: int = 0) -> tuple[float, float, float]:
    """A value of all slices, and its 95 % interval over patients drawn anew."""
    units, chance = list(by_unit), np.random.default_rng(seed)
    drawn = []
    for _ in range(REDRAWN):
        chosen = chance.integers(len(units), size=len(units))
        drawn.append(value(np.concatenate([by_unit[units[n]] for n in chosen])))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(value(np.concatenate(list(by_unit.values())))), float(low), float(high)


def table(options: argparse.Namespace) -> None:
    """Prints the table of a file of scores."""
    stored = json.loads(options.scores.read_text(encoding="utf-8"))
    good, most = stored["facts"]["good"], stored["facts"]["most"]
    print(json.dumps(stored["facts"]))
    print(
        "| set: object | patients, slices | start | Dice at the start | Dice after 1 / 3 / 5 clicks | clicks, median | "
        f"clicks, mean | {good:.2f} within {most} clicks |"
    )
    print("|---|---|---|---|---|---|---|---|")
    keys = list(dict.fromkeys((row["dataset"], row["object"]) for row in stored["rows"]))
    for dataset, name in keys:
        of_object = [row for row in stored["rows"] if (row["dataset"], row["object"]) == (dataset, name)]
        fewer: dict[str, list[float]] = {}
        for start in (EMPTY, PROXY):
            rows = [row for row in of_object if row["start"] == start]
            clicks: dict[str, list[float]] = {}
            for row in rows:
                clicks.setdefault(row["unit"], []).append(needed(row, good, most))
            after = [np.mean([row["dice"][min(count, len(row["dice"]) - 1)] for row in rows]) for count in (0, 1, 3, 5)]
            middle, share = interval(clicks, np.median), interval(clicks, lambda values: np.mean(values <= most))
            mean = interval(clicks, np.mean)
            print(
                f"| {dataset}: {name} | {len(clicks)}, {len(rows)} | {start} | {after[0]:.3f} | "
                f"{' / '.join(f'{value:.3f}' for value in after[1:])} | {_clicks(middle, most)} | "
                f"{mean[0]:.2f} [{mean[1]:.2f}, {mean[2]:.2f}] | {share[0]:.2f} [{share[1]:.2f}, {share[2]:.2f}] |"
            )
        pairs = {(row["unit"], row["case"], row["slice"]): needed(row, good, most)
                 for row in of_object if row["start"] == EMPTY}  # fmt: skip
        for row in of_object:
            if row["start"] == PROXY:
                saved = pairs[row["unit"], row["case"], row["slice"]] - needed(row, good, most)
                fewer.setdefault(row["unit"], []).append(saved)
        saved = interval(fewer, np.mean)
        print(f"| | | clicks saved, mean | | | | {saved[0]:.2f} [{saved[1]:.2f}, {saved[2]:.2f}] | |")


def _clicks(values: tuple[float, float, float], most: int) -> str:
    each = [f"more than {most}" if value > most else f"{value:g}" for value in values]
    return f"{each[0]} [{each[1]}, {each[2]}]"


def main() -> None:
    """Measures, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("data", type=Path)
    measuring.add_argument("--scores", type=Path, required=True)
    measuring.add_argument("--part", choices=(VALIDATION, TEST), default=VALIDATION)
    measuring.add_argument("--sets", nargs="+", default=list(SETS))
    measuring.add_argument("--model", default="sam-compact")
    measuring.add_argument("--supports", type=int, default=4, help="K")
    measuring.add_argument("--draw", type=int, default=0)
    measuring.add_argument("--slices", type=int, default=4, help="slices of a volume for each object")
    measuring.add_argument("--limit", type=int, help="patients of each set")
    measuring.add_argument("--good", type=float, default=GOOD)
    measuring.add_argument("--minutes", type=float, default=9)
    measuring.set_defaults(run=measure)
    listing = commands.add_parser("table")
    listing.add_argument("scores", type=Path)
    listing.set_defaults(run=table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
