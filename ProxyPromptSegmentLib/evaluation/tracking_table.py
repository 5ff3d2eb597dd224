"""The table of tracking scores: the Dice of each method, and its dependence on the support frame.

References:
    Proxy Prompt, section 9.2 and tables 3, 10 and 11: five support pairs, the sample standard deviation over them of
    the objects' mean Dice (its 0.3 and 10.9 points), and the largest difference between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.evaluation.statistics.intervals import ends, interval_text, of_patients
from ProxyPromptSegmentLib.imaging.metrics import dice, dice_per_slice, foreground_dice, inconsistent_slices, summarize

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case

FRAMES, VOLUMES = "frames", "volumes"
ALL_OBJECTS = "mean of the objects"
# Control rows that must fail, for sweeps and for volumes.
EMPTIED = "proxy prompt + memory, support mask emptied"
FUNDUS = "proxy prompt + memory, fundus as support"


@dataclass(kw_only=True)
class TrackTable:
    """The tracking scores of one data set.

    Attributes:
        dataset: Name.
        part: ``test`` or ``validation``.
        unit: `FRAMES`: Dice of each frame, averaged over the frames of a target. `VOLUMES`: Dice of all its voxels.
        supports: ``K`` of the rows, unless the row says otherwise.
        draws: Number of supports with which each target was tracked.
        targets: Names of the targets.
        patients: The patient of each target, see `benchmark.Table`.
        drawn: Descriptions of the support frames.
        scores: method -> object -> Dice of each draw and target, ``(draws, targets)``.
        foreground: The same over the slices that show the object.
        falling: method -> object -> number of inconsistent frames, ``(draws, targets)``.
        disagreements: method -> number of frames on which proxy prompt and memory disagree, ``(draws, targets)``; only
            for methods that have both.
    """

    dataset: str
    part: str
    unit: str
    supports: int
    draws: int
    targets: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    drawn: dict[str, list[str]] = field(default_factory=dict)
    scores: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    foreground: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    falling: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    disagreements: dict[str, np.ndarray] = field(default_factory=dict)

    def note(
        self, method: str, case: Case, masks: np.ndarray, draw: int, target: int, disagreements: int | None = None
    ) -> None:
        """Store the scores of one target with one draw.

        Args:
            method: Name of the row.
            case: The target with its truth.
            masks: uint8 ``(S, N, H, W)``.
            draw: Index of the draw.
            target: Index of the target.
            disagreements: Number of frames reported as disagreeing; None if the method cannot report any.
        """
        shape = (self.draws, len(self.targets))
        for n, name in enumerate(case.objects):
            truth, predicted = case.masks[:, n], masks[:, n]
            whole = dice_per_slice(truth, predicted).mean() if self.unit == FRAMES else dice(truth, predicted)
            for store, value in (
                (self.scores, whole),
                (self.foreground, foreground_dice(truth, predicted)),
                (self.falling, inconsistent_slices(truth, predicted)),
            ):
                store.setdefault(method, {}).setdefault(name, np.zeros(shape))[draw, target] = value
        if disagreements is not None:
            self.disagreements.setdefault(method, np.zeros(shape))[draw, target] = disagreements

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per method and object, and one for the mean of several objects, as JSON values."""
        for method, by_object in self.scores.items():
            falling, shown = self.falling.get(method, {}), self.foreground.get(method, {})
            for name, values in by_object.items():
                yield self._row(method, name, values, falling.get(name), shown.get(name))
            if len(by_object) > 1:
                mean = np.mean(list(by_object.values()), axis=0)
                all_falling = np.sum(list(falling.values()), axis=0) if falling else None
                all_shown = np.mean(list(shown.values()), axis=0) if shown else None
                yield self._row(method, ALL_OBJECTS, mean, all_falling, all_shown)

    def _row(
        self, method: str, name: str, values: np.ndarray, falling: np.ndarray | None, shown: np.ndarray | None
    ) -> dict[str, Any]:
        per_target, per_draw = values.mean(axis=0), values.mean(axis=1)
        summary = summarize(of_patients(per_target, self.patients))
        disagreements = self.disagreements.get(method)
        return {
            "method": method,
            "object": name,
            "dice": round(summary.mean, 4),
            # A single support has no spread.
            "sd_over_supports": round(float(per_draw.std(ddof=1)), 4) if len(per_draw) > 1 else None,
            "max_minus_min": round(float(np.ptp(per_draw)), 4) if len(per_draw) > 1 else None,
            "sd_over_targets": round(float(per_target.std()), 4),
            "ci95": ends(summary),
            "foreground_dice": None if shown is None else round(float(np.nanmean(shown)), 4),
            "falling_out": None if falling is None else round(float(falling.sum(axis=1).mean()), 2),
            "disagreements": None if disagreements is None else round(float(disagreements.sum(axis=1).mean()), 2),
            "per_support": per_draw.round(4).tolist(),
            "per_target": per_target.round(4).tolist(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the whole table as JSON values."""
        return {
            "dataset": self.dataset,
            "protocol": "track",
            "part": self.part,
            "unit": self.unit,
            "supports": self.supports,
            "draws": self.draws,
            "rows": list(self.rows()),
            "targets": self.targets,
            "scores": {
                method: {name: values.round(4).tolist() for name, values in by_object.items()}
                for method, by_object in self.scores.items()
            },
            "drawn": self.drawn,
        }

    def to_markdown(self) -> str:
        """Return the table in Markdown, for sweeps followed by the scores of each support frame."""
        volumes = self.unit == VOLUMES
        people = len(set(self.patients))
        of = f" of {people} patients" if 0 < people < len(self.targets) else ""
        what = "volume Dice" if volumes else "Dice, mean over the frames of a sweep"
        name = "slices" if volumes else "frames"
        lines = [
            f"{self.dataset}: {len(self.targets)} {self.part} targets{of}, K = {self.supports}, {self.draws} draws of "
            f"supports; {what}.",
            "",
            "| method | object | Dice | SD of supports (points) | max - min (points) | 95 % CI "
            f"|{' Dice where the object is |' if volumes else ''} {name} falling out | disagreements |",
            "|---|---|---|---|---|---|---|---|" + ("---|" if volumes else ""),
        ]
        rows = list(self.rows())
        for row in rows:
            shown = f" {_number(row['foreground_dice'], 3)} |" if volumes else ""
            lines.append(
                f"| {row['method']} | {row['object']} | {row['dice']:.3f} | {_points(row['sd_over_supports'])} | "
                f"{_points(row['max_minus_min'])} | {interval_text(row['ci95'])} |{shown} "
                f"{_number(row['falling_out'], 1)} | {_number(row['disagreements'], 1)} |"
            )
        if not volumes:
            numbers = range(1, self.draws + 1)
            lines += ["", "| method | object | " + " | ".join(f"S{n}" for n in numbers) + " |"]
            lines.append("|---|---|" + "---|" * self.draws)
            for row in rows:
                scores = " | ".join(f"{value:.3f}" for value in row["per_support"])
                lines.append(f"| {row['method']} | {row['object']} | {scores} |")
        return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _points(value: float | None) -> str:
    """Return a difference of Dice in percentage points, the paper's unit."""
    return "-" if value is None else f"{100 * value:.1f}"
