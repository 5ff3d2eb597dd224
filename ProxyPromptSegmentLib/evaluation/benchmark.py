"""Tables of Dice on test patients, with the same patients and supports for every method."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case, load_dataset, unit_of
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.broad.baselines import copied_mean
from ProxyPromptSegmentLib.evaluation.conditions import foreign_support, prepare_emptied
from ProxyPromptSegmentLib.evaluation.in_context import Drawn, draw_supports, spacing_of
from ProxyPromptSegmentLib.evaluation.statistics.intervals import ends, interval_text, of_patients
from ProxyPromptSegmentLib.imaging.metrics import dice, foreground_dice, inconsistent_slices, summarize

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
    from ProxyPromptSegmentLib.support.pairs import SupportSet

logger = logging.getLogger(__name__)

FOREIGN = "drishti_gs"
PROXY, EMPTIED, FUNDUS, MEAN = (
    "proxy prompt",
    "proxy prompt, support masks emptied",
    "proxy prompt, fundus as support",
    "mean of the support masks, copied",
)


@dataclass(kw_only=True)
class Table:
    """The scores of all methods on one data set.

    Attributes:
        dataset: Name of the data set.
        supports: ``K``.
        draws: Number of support draws per target; scores are means over them.
        part: Whether the targets are of ``test`` or of ``validation``.
        scores: method -> object -> Dice of each draw and target, ``(draws, targets)``.
        foreground: The same over the slices that show the object.
        inconsistent: method -> object -> number of inconsistent slices, mean over draws, summed over targets.
        targets: Names of the targets.
        patients: The patient of each target, over whom means and intervals are computed; without any, each target is of
            another one.
        drawn: The support slices, by target and draw.
    """

    dataset: str
    supports: int
    draws: int
    part: str = "test"
    targets: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    scores: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    foreground: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    inconsistent: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    drawn: dict[str, list[list[Drawn]]] = field(default_factory=dict)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per method and object, as JSON values."""
        for method, by_object in self.scores.items():
            for name, values in by_object.items():
                per_target = values.mean(axis=0)
                summary = summarize(of_patients(per_target, self.patients))
                yield {
                    "method": method,
                    "object": name,
                    "dice": round(summary.mean, 4),
                    "sd_over_targets": round(float(per_target.std()), 4),
                    "ci95": ends(summary),
                    "sd_over_draws": round(float(values.mean(axis=1).std()), 4),
                    "foreground_dice": round(float(np.nanmean(self.foreground[method][name])), 4),
                    "inconsistent_slices": round(float(self.inconsistent[method][name].sum(axis=1).mean()), 2),
                    "targets": len(self.targets),
                    "patients": summary.count,
                }

    def to_dict(self) -> dict[str, Any]:
        """Return the whole table as JSON values."""
        return {
            "dataset": self.dataset,
            "part": self.part,
            "supports": self.supports,
            "draws": self.draws,
            "rows": list(self.rows()),
            "targets": self.targets,
            "per_target": {
                method: {name: values.mean(axis=0).round(4).tolist() for name, values in by_object.items()}
                for method, by_object in self.scores.items()
            },
            "drawn": {
                target: [[f"{d.name}:{d.slice_index}" for d in draw] for draw in draws]
                for target, draws in self.drawn.items()
            },
        }

    def to_markdown(self) -> str:
        """Return the table in Markdown, for the model card."""
        people = len(set(self.patients))
        of = f" of {people} patients" if 0 < people < len(self.targets) else ""
        targets = f"{len(self.targets)} {self.part} targets{of}"
        lines = [
            f"{self.dataset}: {targets}, K = {self.supports}, {self.draws} draws of supports.",
            "",
            "| method | object | Dice | SD | 95 % CI | SD of draws | Dice where the object is | slices falling out |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows():
            lines.append(
                f"| {row['method']} | {row['object']} | {row['dice']:.3f} | {row['sd_over_targets']:.3f} | "
                f"{interval_text(row['ci95'])} | {row['sd_over_draws']:.3f} | "
                f"{row['foreground_dice']:.3f} | {row['inconsistent_slices']:.1f} |"
            )
        return "\n".join(lines) + "\n"


def run_table(
    segmenter: Segmenter,
    data: Path,
    dataset: str,
    supports: int = 4,
    draws: int = 5,
    seed: int = 0,
    unet: Path | None = None,
    part: str = "test",
    limit: int | None = None,
    on_target: Callable[[int, int], None] | None = None,
) -> Table:
    """Score every method on the targets of one data set, with supports from its training patients.

    Args:
        segmenter: The model.
        data: Folder of the data sets.
        dataset: ``promise12``, ``psfhs`` or any other name that `load_dataset` accepts.
        supports: ``K``.
        draws: Number of support draws per target.
        seed: Seed of the first draw.
        unet: Weights of the U-Net, for its row.
        part: ``test``, or ``validation`` for choosing settings.
        limit: Largest number of targets, evenly spaced.
        on_target: Called with the number of targets done and the total.

    Raises:
        UsageError: If the part is unknown.
    """
    if part not in ("test", "validation"):
        raise UsageError(f"the part is '{part}'; choose test or validation")
    parts = split(load_dataset(data, dataset), dataset)
    targets: list[Case] = getattr(parts, part)
    if limit is not None and limit < len(targets):
        targets = [targets[i] for i in np.linspace(0, len(targets) - 1, limit).round().astype(int)]
    foreign = split(load_dataset(data, FOREIGN), FOREIGN).test
    table = Table(
        dataset=dataset,
        supports=supports,
        draws=draws,
        part=part,
        targets=[case.name for case in targets],
        patients=[unit_of(case) for case in targets],
    )
    volume = len({case.images.shape for case in targets}) == 1 and targets[0].images.shape[0] > 1
    for number, case in enumerate(targets):
        encoded: dict[int, EncodedSlices] = {}
        table.drawn[case.name] = []
        for draw in range(draws):
            support, drawn = draw_supports(parts.train, case, supports, seed + draw)
            table.drawn[case.name].append(drawn)
            wrong = foreign_support(foreign, case.objects, supports, seed + draw)
            for method, masks in _methods(segmenter, case, support, wrong, encoded):
                _note(table, method, case, masks, draw, number)
        if unet is not None and volume:
            name, masks = _unet(unet, case)
            for draw in range(draws):
                _note(table, name, case, masks, draw, number)
        if on_target:
            on_target(number + 1, len(targets))
    return table


def _methods(
    segmenter: Segmenter, case: Case, support: SupportSet, wrong: SupportSet, encoded: dict[int, EncodedSlices]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the masks uint8 ``(S, N, H, W)`` of each method on one target with one draw."""
    spacing = spacing_of(case)
    yield MEAN, copied_mean(list(support.pairs), case)
    conditions = (
        (PROXY, segmenter.prepare(support)),
        (EMPTIED, prepare_emptied(segmenter, support)),
        (FUNDUS, segmenter.prepare(wrong)),
    )
    for method, prepared in conditions:
        yield method, segmenter.segment(case.images, prepared, spacing_mm=spacing, encoded=encoded).masks()


def _unet(weights: Path, case: Case) -> tuple[str, np.ndarray]:
    """Return the U-Net's name in the table, and its masks."""
    from ProxyPromptSegmentLib.evaluation.unet_baseline import describe_unet, load_unet, predict_volume

    return describe_unet(weights), predict_volume(load_unet(weights), case.images)[:, None]


def _note(table: Table, method: str, case: Case, masks: np.ndarray, draw: int, target: int) -> None:
    """Store the scores of one target in the table."""
    shape = (table.draws, len(table.targets))
    for n, name in enumerate(case.objects):
        truth, predicted = case.masks[:, n], masks[:, n]
        for store, value in (
            (table.scores, dice(truth, predicted)),
            (table.foreground, foreground_dice(truth, predicted)),
            (table.inconsistent, inconsistent_slices(truth, predicted) if len(truth) > 2 else 0),
        ):
            store.setdefault(method, {}).setdefault(name, np.zeros(shape))[draw, target] = value
