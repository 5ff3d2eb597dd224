"""Which slices are doubtful: the threshold, chosen on validation patients, and what it finds on test patients.

    python Testing/benchmarks/doubts.py DATA_FOLDER --note Docs/results/doubts.md
    python Testing/benchmarks/doubts.py DATA_FOLDER --limit 3 --draws 1      # fewer patients

Targets are the volumes of PROMISE12 and ACDC, supports K slices of as many training patients, registered as in use.
A slice of an object is *bad* if its Dice with the truth is below 0.7; a slice that is rightly empty is good. The list
of a case is right about an entry that is bad. The threshold is the lowest whose lists have nearly the highest F1 of
precision and recall on all validation cases together, at most `MOST` entries for a case; only then the test patients
are looked at.
Write the threshold that is printed into `DOUBTFUL` of ``ProxyPromptSegmentLib/reports/doubts.py``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from volume_helps import drawn, given, stack_of

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.broad.tasks import TEST, VALIDATION, Task, tasks_of
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.helps import Helps
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.reports.doubts import DOUBTFUL, MOST, Judged, doubtful, judged
from ProxyPromptSegmentLib.reports.results_table import ResultArrays
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.support.registration.prior import MarkedStack, register

SETS = ("promise12", "acdc")
BAD = 0.7
NEARLY = 0.015  # of F1
THRESHOLDS = np.round(np.arange(0.1, 0.96, 0.05), 2)


@dataclass(frozen=True)
class Outcome:
    """A segmented case.

    Attributes:
        dataset: Its data set.
        judged: Its slices.
        dice: Dice of each slice and object, ``(S, N)``.
    """

    dataset: str
    judged: list[Judged]
    dice: np.ndarray

    @property
    def bad(self) -> int:
        """Number of bad slices of all objects."""
        return int((self.dice < BAD).sum())

    def right(self, threshold: float, most: int = MOST) -> tuple[int, int]:
        """Return how many entries the list has, and how many are right."""
        listed = doubtful(self.judged, most, threshold)
        return len(listed), sum(bool(self.dice[one.index, one.object_index] < BAD) for one in listed)


@dataclass(frozen=True)
class Score:
    """What the lists of some cases find.

    Attributes:
        cases: Number of cases.
        slices: Number of slices of all objects.
        bad: Bad ones.
        listed: Entries.
        right: Entries that are bad.
        findable: Bad ones, at most `MOST` of a case: what a list of that length can find.
    """

    cases: int
    slices: int
    bad: int
    listed: int
    right: int
    findable: int

    @property
    def precision(self) -> float:
        """Share of the entries that are bad."""
        return self.right / self.listed if self.listed else float("nan")

    @property
    def recall(self) -> float:
        """Share of the bad slices that are listed."""
        return self.right / self.bad if self.bad else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.right / (self.listed + self.bad) if self.listed + self.bad else 0.0

    def row(self, name: str) -> str:
        """Return a row of the table."""
        return (
            f"| {name} | {self.cases} | {self.slices} | {self.bad} | {self.listed / max(1, self.cases):.1f} | "
            f"{self.precision:.2f} | {self.recall:.2f} | {self.right / max(1, self.findable):.2f} | {self.f1:.2f} |"
        )


HEAD = (
    f"| cases | number | slices of objects | bad | entries a case | precision | recall | of what {MOST} can find "
    "| F1 |\n|---|---|---|---|---|---|---|---|---|"
)


def score(found: Iterable[Outcome], threshold: float, most: int = MOST) -> Score:
    """Return what the lists of some cases find at a threshold."""
    outcomes = list(found)
    counts = [one.right(threshold, most) for one in outcomes]
    return Score(
        cases=len(outcomes),
        slices=sum(one.dice.size for one in outcomes),
        bad=sum(one.bad for one in outcomes),
        listed=sum(listed for listed, _right in counts),
        right=sum(right for _listed, right in counts),
        findable=sum(min(most, one.bad) for one in outcomes),
    )


def choose(found: list[Outcome]) -> float:
    """Return the lowest threshold with nearly the highest F1; a lower one lists fewer slices."""
    scores = [score(found, float(one)).f1 for one in THRESHOLDS]
    # Full lists of cases that need none are worse than a hundredth of F1.
    return float(THRESHOLDS[int(np.argmax(np.array(scores) >= max(scores) - NEARLY))])


def outcomes_of(segmenter: Segmenter, task: Task, draws: int, supports: int) -> Iterator[Outcome]:
    """Segment the targets of a task as a run does."""
    for target in task.targets:
        encoded: dict = {}
        for seed in range(draws):
            chosen = drawn(task.pool, target, supports, seed)
            objects = chosen[0][0].objects
            prepared = segmenter.prepare(SupportSet(tuple(given(*one) for one in chosen), objects))
            volumes = [MarkedStack(case.name, stack_of(case), case.masks) for case, _ in chosen]
            prior = register(volumes, stack_of(target)).masks
            result = segmenter.segment(target.images, prepared, encoded=encoded, helps=Helps(prior=prior))
            masks, filled = result.masks_and_filled()
            arrays = ResultArrays(
                objects=objects,
                masks=masks,
                confidence=result.confidence(masks),
                presence=result.presence,
                done=result.done,
                filled=filled,
            )
            yield Outcome(task.dataset, judged(arrays), _dice_of(target, masks))
        print(f"{task.dataset} {target.name} done", file=sys.stderr, flush=True)


def _dice_of(case: Case, masks: np.ndarray) -> np.ndarray:
    """Return the Dice of each slice and object, ``(S, N)``; 1 where both are empty."""
    pairs = [[dice(case.masks[k, n], masks[k, n]) for n in range(masks.shape[1])] for k in range(len(masks))]
    return np.array(pairs, dtype=float)


def measure(segmenter: Segmenter, options: argparse.Namespace, part: str) -> list[Outcome]:
    """Return the outcomes of all sets in a part."""
    found = []
    for task in tasks_of(options.data, options.sets, part, options.limit):
        found += outcomes_of(segmenter, task, options.draws, options.supports)
    return found


def table(found: list[Outcome], threshold: float, part: str) -> list[str]:
    """Return the rows of a part, for all sets and each."""
    rows = [score(found, threshold).row(f"{part}: all")]
    for name in dict.fromkeys(one.dataset for one in found):
        rows.append(score([one for one in found if one.dataset == name], threshold).row(f"{part}: {name}"))
    return rows


def main() -> None:
    """Choose the threshold, report the test patients, and print or write the note."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="sam-compact")
    parser.add_argument("--supports", type=int, default=4, help="K")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--limit", type=int, help="patients of each set")
    parser.add_argument("--note", type=Path, help="file whose tables are replaced, below the line that names them")
    options = parser.parse_args()
    model = load(options.model, "cpu")
    segmenter = model.segmenter
    validation = measure(segmenter, options, VALIDATION)
    threshold = choose(validation)
    lines = [
        f"Weights {model.facts.sha256[:6]}, K = {options.supports} registered supports, {options.draws} draws of them.",
        f"Threshold {threshold:.2f} (in use: {DOUBTFUL:.2f}), at most {MOST} entries a case.",
        "",
        HEAD,
    ]
    lines += [score(validation, float(one)).row(f"validation at {one:.2f}") for one in THRESHOLDS]
    lines += ["", HEAD, *table(validation, threshold, VALIDATION)]
    lines += [score(validation, 2.0).row(f"{VALIDATION}: the {MOST} least sure of each case")]
    lines += table(measure(segmenter, options, TEST), threshold, TEST)
    text = "\n".join(lines)
    print(text)
    if options.note:
        before = options.note.read_text(encoding="utf-8").partition(MARK)[0] if options.note.exists() else ""
        options.note.write_text(f"{before}{MARK}\n\n{text}\n", encoding="utf-8")


MARK = "## Measured"
"""The heading above the tables in the note."""

if __name__ == "__main__":
    main()
