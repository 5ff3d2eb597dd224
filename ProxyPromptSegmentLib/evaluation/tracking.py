"""The tracking protocol: sweeps and volumes tracked with SAM 2's memory, prompted only by other patients' frames.

A sweep is tracked strictly forwards, with the intensity window of its first frame: no row uses later frames. All
targets are tracked with the same few support frames, so that the effect of the choice of a frame can be seen. All
rows of a target use the same image embeddings, which are computed once.

References:
    Proxy Prompt, section 9: the template of MedSAM 2 is the support frame with its mask, given to SAM 2 as frame 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case, load_dataset, unit_of
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.conditions import foreign_support, prepare_emptied
from ProxyPromptSegmentLib.evaluation.in_context import pair_of, spacing_of
from ProxyPromptSegmentLib.evaluation.mean_mask import predict_mean_mask
from ProxyPromptSegmentLib.evaluation.tracking_table import EMPTIED, FRAMES, FUNDUS, TrackTable
from ProxyPromptSegmentLib.evaluation.tracking_volumes import follow_volumes
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.networks.protocols import has_memory
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from ProxyPromptSegmentLib.tracking.choices import TrackingMode

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
    from ProxyPromptSegmentLib.networks.values import PreparedSupport

SWEEPS = ("ccaus_video",)
FOREIGN = "drishti_gs"
COPIED = "the support's mask, copied"
FOLLOWED = "proxy prompt + memory"
ALONE = "proxy prompt alone, each frame on its own"
TEMPLATE = "memory alone, the support as frame 0"
BLANK_TEMPLATE = "memory alone, the support as frame 0, mask emptied"
OWN_FIRST = "memory alone, the target's own first mask"

Progress = Callable[[int, int], None]
SupportFrame = tuple[Case, int]


def check_memory(segmenter: Segmenter) -> None:
    """Reject a model that cannot track.

    Raises:
        UsageError: If its backbone has no memory.
    """
    if not has_memory(segmenter.model.backbone):
        raise UsageError(
            f"the model's backbone {segmenter.model.backbone.name} has no memory and cannot track; choose a SAM "
            "2 such as sam2-compact, or score each slice on its own",
            Remedy(kind=RemedyKind.SCORE_SLICES),
        )


def run_tracking(
    segmenter: Segmenter,
    data: Path,
    dataset: str,
    supports: int = 4,
    draws: int = 5,
    seed: int = 0,
    part: str = "test",
    limit: int | None = None,
    on_target: Progress | None = None,
    beside: dict[str, Segmenter] | None = None,
) -> TrackTable:
    """Track the targets of one data set, with supports from its training patients.

    Args:
        segmenter: A model with a memory.
        data: Folder of the data sets.
        dataset: ``ccaus_video``, whose sweeps are tracked forwards, or a set of volumes, tracked in both directions.
        supports: ``K`` of volumes; for sweeps, whose rows have one support frame, ``K`` of an additional row.
        draws: Number of supports with which each target is tracked.
        seed: Seed of the draws.
        part: ``test``, or ``validation`` for choosing settings.
        limit: Largest number of targets, evenly spaced.
        on_target: Told the number of targets done and of all.
        beside: Models for comparison, by name, that segment the same volumes slice by slice.

    Raises:
        UsageError: If the model has no memory, the part is unknown, or the data set has nothing to track.
    """
    check_memory(segmenter)
    if part not in ("test", "validation"):
        raise UsageError(f"the part is '{part}'; choose test or validation")
    if beside and dataset in SWEEPS:
        raise UsageError(f"a second model is compared on volumes, not on sweeps such as {dataset}; leave it out")
    parts = split(load_dataset(data, dataset), dataset)
    targets: list[Case] = getattr(parts, part)
    if not targets or min(len(case.images) for case in targets) < 2:
        raise UsageError(
            f"the {part} part of {dataset} has no sweeps or volumes to track", Remedy(kind=RemedyKind.SCORE_SLICES)
        )
    if limit is not None and limit < len(targets):
        targets = [targets[i] for i in np.linspace(0, len(targets) - 1, limit).round().astype(int)]
    foreign = split(load_dataset(data, FOREIGN), FOREIGN).test
    if dataset in SWEEPS:
        return follow_sweeps(segmenter, targets, parts.train, foreign, draws, supports, seed, part, on_target)
    return follow_volumes(
        segmenter, targets, parts.train, foreign, draws, supports, seed, part, on_target, beside or {}
    )


def draw_frames(pool: list[Case], count: int, seed: int) -> list[SupportFrame]:
    """Draw distinct frames that show every object, from all sweeps in turn.

    Args:
        pool: Sweeps that may be supports.
        count: Number of frames.
        seed: Seed of the draw.

    Raises:
        UsageError: If there are fewer such frames.
    """
    rng = np.random.default_rng(seed)
    queues = [[(pool[n], int(i)) for i in rng.permutation(_marked(pool[n]))] for n in rng.permutation(len(pool))]
    longest = max((len(queue) for queue in queues), default=0)
    chosen = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
    if len(chosen) < count:
        raise UsageError(f"{count} different support frames were requested, but there are {len(chosen)}; request fewer")
    return chosen[:count]


def join_frames(first: SupportFrame, pool: list[Case], count: int, seed: int) -> list[SupportFrame]:
    """Add one frame of each of several other sweeps to a support frame, up to ``count`` frames in all."""
    rng = np.random.default_rng([seed, *first[0].name.encode(), first[1]])
    others = [case for case in pool if case.patient != first[0].patient and len(_marked(case))]
    chosen = [others[n] for n in rng.permutation(len(others))[: count - 1]]
    return [first, *((case, int(rng.choice(_marked(case)))) for case in chosen)]


def _marked(case: Case) -> np.ndarray:
    return np.flatnonzero(np.all(case.masks.any(axis=(2, 3)), axis=1))


@dataclass(frozen=True)
class _Draw:
    """The prepared support of one drawn frame; independent of the target, so it is prepared once."""

    pair: SupportPair
    prepared: dict[str, PreparedSupport]


def _prepare_draws(
    segmenter: Segmenter, pool: list[Case], foreign: list[Case], draws: int, supports: int, seed: int, table: TrackTable
) -> list[_Draw]:
    made = []
    for number, frame in enumerate(draw_frames(pool, draws, seed)):
        pair, objects = pair_of(*frame), frame[0].objects
        support = SupportSet((pair,), objects)
        prepared = {
            FOLLOWED: segmenter.prepare(support),
            EMPTIED: prepare_emptied(segmenter, support),
            FUNDUS: segmenter.prepare(foreign_support(foreign, objects, 1, seed + number)),
        }
        table.drawn[f"S{number + 1}"] = [pair.source]
        joined = join_frames(frame, pool, supports, seed)
        if len(joined) > 1:
            several = SupportSet(tuple(pair_of(*one) for one in joined), objects)
            prepared[f"{FOLLOWED}, {len(joined)} supports"] = segmenter.prepare(several)
            table.drawn[f"S{number + 1}, {len(joined)} supports"] = [one.source for one in several.pairs]
        made.append(_Draw(pair, prepared))
    return made


def follow_sweeps(
    segmenter: Segmenter,
    targets: list[Case],
    pool: list[Case],
    foreign: list[Case],
    draws: int = 5,
    supports: int = 1,
    seed: int = 0,
    part: str = "test",
    on_target: Progress | None = None,
    make_tracker: Callable[..., Any] | None = None,
) -> TrackTable:
    """Track each sweep from its first frame with each of the same support frames.

    Args:
        segmenter: A model with a memory.
        targets: Sweeps.
        pool: Sweeps from which support frames are drawn.
        foreign: Images of another organ.
        draws: Number of support frames.
        supports: If above 1, an additional row has this many frames, each from another sweep if there are enough.
        seed: Seed of the draws.
        part: Part of the split, for the table's heading.
        on_target: Told the number of targets done and of all.
        make_tracker: Builds a tracker from the segmenter and a mode; by default `Tracker`.
    """
    if make_tracker is None:
        from ProxyPromptSegmentLib.tracking.tracker import Tracker

        make_tracker = Tracker
    table = TrackTable(
        dataset=targets[0].dataset,
        part=part,
        unit=FRAMES,
        supports=1,
        draws=draws,
        targets=[case.name for case in targets],
        patients=[unit_of(case) for case in targets],
    )
    made = _prepare_draws(segmenter, pool, foreign, draws, supports, seed, table)
    # A row exists for all targets or for none.
    one_size = len({case.masks.shape[2:] for case in (*targets, *pool)}) == 1
    begun = all(case.masks[0].any() for case in targets)
    for number, case in enumerate(targets):
        sweep = _Sweep.encode(segmenter, case, make_tracker)
        # No support is involved, so it is the same for every draw.
        upper = sweep.follow_template(replace(pair_of(case, 0), window=sweep.window)) if begun else None
        for draw, drawn in enumerate(made):
            if one_size:
                copied = predict_mean_mask(drawn.pair.masks[None], len(case.images))
                table.note(COPIED, case, copied, draw, number)
            for method, prepared in drawn.prepared.items():
                masks, disagreements = sweep.follow(TrackingMode.PROXY_AND_BANK, prepared)
                table.note(method, case, masks, draw, number, disagreements)
            table.note(ALONE, case, sweep.follow(TrackingMode.PROXY_ONLY, drawn.prepared[FOLLOWED])[0], draw, number)
            table.note(TEMPLATE, case, sweep.follow_template(drawn.pair), draw, number)
            # Must fail: otherwise it is not the memory that finds the object in the row above.
            table.note(BLANK_TEMPLATE, case, sweep.follow_template(drawn.pair, emptied=True), draw, number)
            if upper is not None:
                table.note(OWN_FIRST, case, upper, draw, number)
        if on_target:
            on_target(number + 1, len(targets))
    return table


@dataclass(frozen=True)
class _Sweep:
    """A target with its embeddings, computed once, and a factory of trackers."""

    case: Case
    window: tuple[float, float]
    frames: list[EncodedSlices]
    make_tracker: Callable[[TrackingMode], Any]

    @staticmethod
    def encode(segmenter: Segmenter, case: Case, make_tracker: Callable[..., Any]) -> _Sweep:
        window = intensity_window(case.images[:1])
        encoded = segmenter.encode(case.images, window, spacing_of(case))
        frames = [encoded.one(index) for index in range(len(case.images))]
        return _Sweep(case, window, frames, lambda mode: make_tracker(segmenter, mode))

    def follow(self, mode: TrackingMode, support: PreparedSupport) -> tuple[np.ndarray, int]:
        """Return masks uint8 ``(S, N, H, W)``, and the number of frames on which proxy prompt and memory disagree."""
        tracker = self.make_tracker(mode)
        tracker.start(support, self.window, spacing_of(self.case))
        return self._steps(tracker)

    def follow_template(self, template: SupportPair, emptied: bool = False) -> np.ndarray:
        """Return the masks from SAM 2's memory alone, initialised with an annotated frame, or one with empty masks."""
        masks = np.zeros_like(template.masks) if emptied else template.masks
        tracker = self.make_tracker(TrackingMode.BANK_ONLY)
        tracker.start(None, self.window, spacing_of(self.case))
        tracker.anchor(template.image, masks, template.window, template.spacing_mm)
        return self._steps(tracker)[0]

    def _steps(self, tracker: Any) -> tuple[np.ndarray, int]:
        masks, disagreements = [], 0
        for index, (image, encoded) in enumerate(zip(self.case.images, self.frames, strict=True)):
            prediction = tracker.step(image, index, encoded)
            masks.append(prediction.masks())
            disagreements += bool(np.any(prediction.disagrees))
        return np.stack(masks), disagreements
