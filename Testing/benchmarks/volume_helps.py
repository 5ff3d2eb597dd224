"""What positions and registered supports change for volumes: the second table of Docs/results/registration.md.

    python Testing/benchmarks/volume_helps.py DATA_FOLDER --model sam-compact --weight 0.2 0.35 0.5
    python Testing/benchmarks/volume_helps.py DATA_FOLDER --weight 0.35 --part test --sets promise12 acdc prostate158
    python Testing/benchmarks/volume_helps.py DATA_FOLDER --weight 0.35 --foreign

Targets are the validation volumes of PROMISE12 and ACDC, supports K slices of as many training patients, whose volumes
are registered. Differences are paired by target and draw; intervals are over patients. Settings are chosen on
validation patients, never on test patients. With ``--foreign`` the supports show the organ of another set, and the
table has the share of targets on which something is drawn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.broad.supports import slices_with_all
from ProxyPromptSegmentLib.evaluation.broad.tasks import TEST, VALIDATION, Task, tasks_of
from ProxyPromptSegmentLib.evaluation.in_context import pair_of
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.imaging.metrics import dice, summarize
from ProxyPromptSegmentLib.inference.helps import Helps
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from ProxyPromptSegmentLib.support.registration.prior import MarkedStack, register
from ProxyPromptSegmentLib.support.registration.stack import Stack

ALONE = "registration alone"
SETS = ("promise12", "acdc")
FOREIGN = {"promise12": "acdc", "acdc": "promise12"}  # whose organ the supports show instead


def depths_of(case: Case) -> np.ndarray:
    """Position of each slice along its volume."""
    return np.linspace(-1, 1, len(case.images), dtype=np.float32)


def stack_of(case: Case) -> Stack:
    """A case's slices; distances are known only for some sets."""
    unit = window_to_unit(case.images, intensity_window(case.images))
    return Stack(unit, case.spacing_mm or (1.0, 1.0, 1.0), measured=case.spacing_mm is not None)


def drawn(pool: list[Case], target: Case, count: int, seed: int) -> list[tuple[Case, int]]:
    """A slice of each of so many patients, with every object."""
    rng = np.random.default_rng([seed, *target.name.encode()])
    patients = rng.permutation(sorted({case.patient for case in pool} - {target.patient}))[:count]
    chosen = []
    for patient in patients:
        cases = [case for case in pool if case.patient == patient]
        case = cases[int(rng.integers(len(cases)))]
        shown = slices_with_all(case)
        chosen.append((case, shown[int(rng.integers(len(shown)))]))
    return chosen


def ends_missed(truth: np.ndarray, masks: np.ndarray) -> list[bool]:
    """Whether the first and the last slice of each object are empty."""
    missed = []
    for number in range(truth.shape[1]):
        shown = np.flatnonzero(truth[:, number].any(axis=(1, 2)))
        missed += [not masks[index, number].any() for index in shown[[0, -1]]]
    return missed


def conditions(target: Case, prior: np.ndarray | None, weights: list[float]) -> dict[str, Helps]:
    """What the network is given."""
    depths = depths_of(target)
    made = {"nothing": Helps(), "position": Helps(depths=depths)}
    if weights:
        made["registered, as mask prompt"] = Helps(prior=prior, joined_with=0, as_prompt=True)
    for weight in weights:
        made[f"registered, joined with {weight:g}"] = Helps(prior=prior, joined_with=weight)
    return made


def given(case: Case, index: int) -> SupportPair:
    """A support slice that knows its position."""
    pair = pair_of(case, index)
    object.__setattr__(pair, "depth", float(depths_of(case)[index]))
    return pair


def results(
    segmenter: Segmenter, pool: list[Case], target: Case, options: argparse.Namespace
) -> Iterator[tuple[str, np.ndarray]]:
    """Masks ``(S, N, H, W)`` of each condition and draw of supports, and of the registration alone."""
    encoded: dict = {}
    for seed in range(options.draws):
        chosen = drawn(pool, target, options.supports, seed)
        objects = chosen[0][0].objects
        prepared = segmenter.prepare(SupportSet(tuple(given(*one) for one in chosen), objects))
        prior = None
        if options.weight:
            volumes = [MarkedStack(case.name, stack_of(case), case.masks) for case, _ in chosen]
            prior = register(volumes, stack_of(target)).masks
            shape = (len(target.images), len(objects), *target.images.shape[1:3])
            yield ALONE, np.zeros(shape, bool) if prior is None else prior >= 0.5
        for condition, helps in conditions(target, prior, options.weight).items():
            yield condition, segmenter.segment(target.images, prepared, encoded=encoded, helps=helps).masks()


def measure(segmenter: Segmenter, task: Task, options: argparse.Namespace) -> None:
    """Prints a row for each condition of a task."""
    scores: dict[str, dict[str, list[list[float]]]] = {}
    missed: dict[str, list[bool]] = {}
    for target in task.targets:
        for condition, masks in results(segmenter, task.pool, target, options):
            each = [dice(target.masks[:, n], masks[:, n]) for n in range(masks.shape[1])]
            scores.setdefault(condition, {}).setdefault(target.patient, []).append(each)
            missed.setdefault(condition, []).extend(ends_missed(target.masks, masks))
        print(f"{task.dataset} {target.name} done", file=sys.stderr, flush=True)
    plain = scores["nothing"]
    for condition, by in scores.items():
        means = np.mean([np.mean(rows, axis=0) for rows in by.values()], axis=0)
        change = summarize([np.mean(np.array(rows) - np.array(plain[patient])) for patient, rows in by.items()])
        print(
            f"| {task.dataset}: {', '.join(task.objects)} | {condition} | "
            f"{' / '.join(f'{value:.3f}' for value in means)} | {change.mean:+.3f} "
            f"[{change.low:+.3f}, {change.high:+.3f}] | {np.mean(missed[condition]):.2f} |",
            flush=True,
        )


def measure_foreign(segmenter: Segmenter, task: Task, pool: list[Case], options: argparse.Namespace) -> None:
    """Prints how often something is drawn from supports of another organ."""
    shares: dict[str, list[float]] = {}
    for target in task.targets:
        for condition, masks in results(segmenter, pool, target, options):
            shares.setdefault(condition, []).append(float(masks.any(axis=(0, 2, 3)).mean()))
    for condition, drawings in shares.items():
        print(f"| {task.dataset} | {condition} | {np.mean(drawings):.2f} | | |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="sam-compact")
    parser.add_argument("--supports", type=int, default=4, help="K")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--weight", type=float, nargs="*", default=[], help="weights of the registered masks")
    parser.add_argument("--part", choices=(VALIDATION, TEST), default=VALIDATION)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--limit", type=int, help="patients of each set")
    parser.add_argument("--foreign", action="store_true", help="supports of another organ")
    options = parser.parse_args()
    segmenter = load(options.model, "cpu").segmenter
    last = "targets on which something is drawn" if options.foreign else "Dice"
    print(f"| set | given beside the images | {last} | change, paired | first and last slices missed |")
    print("|---|---|---|---|---|")
    for task in tasks_of(options.data, options.sets, options.part, options.limit):
        if options.foreign:
            other = next(tasks_of(options.data, [FOREIGN[task.dataset]], options.part, options.limit))
            measure_foreign(segmenter, task, other.pool, options)
        else:
            measure(segmenter, task, options)


if __name__ == "__main__":
    main()
