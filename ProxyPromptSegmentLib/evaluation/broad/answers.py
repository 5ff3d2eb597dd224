"""A model's answer for one target, through the same calls as the program, and its scores by slice."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.evaluation.broad.records import Record, SliceScores
from ProxyPromptSegmentLib.imaging.metrics import dice, dice_per_slice
from ProxyPromptSegmentLib.inference.postprocess import smooth_over_slices
from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.inference.tiling.stack import segment_stack
from ProxyPromptSegmentLib.inference.tiling.tiler import closer_for, plan_for
from ProxyPromptSegmentLib.inference.volume_result import notes_on
from ProxyPromptSegmentLib.support.pairs import SupportSet

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.evaluation.broad.tasks import Task
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
    from ProxyPromptSegmentLib.networks.values import PreparedSupport

IN_TIME = ("ccaus_video",)  # frames of a clip: an object can leave, so no gap is filled
Encoded = MutableMapping[int, "EncodedSlices"]


@dataclass(frozen=True)
class Answer:
    """What the program gives for one target.

    Attributes:
        masks: uint8 ``(S, N, H, W)``.
        confidence: Its confidence in them, 0..1, ``(S, N)``.
        presence: Probability that the slice shows the object, as it is used for the masks, ``(S, N)``.
        notes: Number of sentences for the user.
    """

    masks: np.ndarray
    confidence: np.ndarray
    presence: np.ndarray
    notes: int = 0

    def slices(self, truth: np.ndarray, number: int) -> SliceScores:
        """Return the scores of every slice for one object, given its truth ``(S, H, W)``."""
        return slice_scores(truth, self.masks[:, number], self.confidence[:, number], self.presence[:, number])


def ask(
    segmenter: Segmenter, case: Case, support: SupportSet | PreparedSupport, encoded: Encoded | None = None
) -> Answer:
    """Segment every slice of a case, in tiles or with a closer look where the support demands it.

    Args:
        segmenter: The model.
        case: The target.
        support: The support, or the result of `Segmenter.prepare`.
        encoded: Embeddings of the target's slices, which are reused and completed; tiles are embedded each time.
    """
    spacing = (1.0, 1.0) if case.spacing_mm is None else (case.spacing_mm[1], case.spacing_mm[2])
    if isinstance(support, SupportSet) and _in_parts(segmenter, case, support, spacing):
        result = segment_stack(segmenter, case.images, support, spacing_mm=spacing)
    else:
        result = segmenter.segment(case.images, support, spacing_mm=spacing, encoded=encoded)
    result.fill_gaps = case.dataset not in IN_TIME
    masks, filled = result.masks_and_filled()
    return Answer(
        masks=masks,
        confidence=result.confidence(masks),
        presence=smooth_over_slices(result.presence, result.done),
        notes=len(result.notes) + len(notes_on(result, masks, THRESHOLD, filled, None, segmenter.calibration)),
    )


def _in_parts(segmenter: Segmenter, case: Case, support: SupportSet, spacing_mm: tuple[float, float]) -> bool:
    """Return whether the program segments any object of the support in tiles, or looks closer at one."""
    shape = (int(case.images.shape[1]), int(case.images.shape[2]))
    plan = plan_for(segmenter, support, shape, spacing_mm)
    return bool(plan.in_tiles or closer_for(segmenter, support, plan))


def slice_scores(
    truth: np.ndarray, predicted: np.ndarray, confidence: np.ndarray | None = None, presence: np.ndarray | None = None
) -> SliceScores:
    """Score every slice of one object; masks ``(S, H, W)``, the rest ``(S,)``."""
    scores: SliceScores = {
        "truth": [int(mask.any()) for mask in truth],
        "drawn": [int(mask.any()) for mask in predicted],
        "dice": dice_per_slice(truth, predicted).round(4).tolist(),
    }
    for name, values in (("confidence", confidence), ("presence", presence)):
        if values is not None:
            scores[name] = np.asarray(values, float).round(4).tolist()
    return scores


def dice_records(
    task: Task,
    case: Case,
    truth: np.ndarray,
    masks: np.ndarray,
    *,
    measure: str,
    condition: str,
    supports: int,
    draw: int,
) -> list[Record]:
    """Score each object of a target over all of its voxels; truth and masks are ``(S, N, H, W)``."""
    return [
        Record(
            measure=measure,
            dataset=task.dataset,
            object=name,
            condition=condition,
            supports=supports,
            draw=draw,
            case=case.name,
            patient=task.unit(case),
            score=dice(truth[:, n], masks[:, n]),
        )
        for n, name in enumerate(case.objects)
    ]
