"""Baselines beside every row in context: the copied mean mask, and matching of an untrained trunk's features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.evaluation.broad.answers import slice_scores
from ProxyPromptSegmentLib.evaluation.broad.in_context import NAME
from ProxyPromptSegmentLib.evaluation.broad.records import Record
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs
from ProxyPromptSegmentLib.evaluation.mean_mask import predict_mean_mask
from ProxyPromptSegmentLib.imaging.metrics import dice

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.evaluation.broad.tasks import Task
    from ProxyPromptSegmentLib.evaluation.broad.trunk_matching import TrunkMatching
    from ProxyPromptSegmentLib.support.pairs import SupportPair

MEAN_MASK, MATCHING = "copied mean mask", "matched features of the untrained trunk"


def score_baselines(
    task: Task, case: Case, supports: int, draw: int, matching: TrunkMatching | None = None
) -> list[Record]:
    """Score the baselines on a target with the supports that the model is given.

    Args:
        task: The task.
        case: The target.
        supports: ``K``.
        draw: Number of the draw.
        matching: The trunk; without it the mean mask is the only baseline.
    """
    pairs = draw_pairs(task.pool, case, supports, draw)
    if len(pairs) < supports:
        return []
    answers = {MEAN_MASK: copied_mean(pairs, case)}
    if matching is not None:
        answers[MATCHING] = matching.segment(case, pairs)
    return [
        Record(
            measure=NAME,
            dataset=task.dataset,
            object=name,
            method=method,
            supports=supports,
            draw=draw,
            case=case.name,
            patient=task.unit(case),
            score=dice(case.masks[:, n], masks[:, n]),
            slices=slice_scores(case.masks[:, n], masks[:, n]),
        )
        for method, masks in answers.items()
        for n, name in enumerate(case.objects)
    ]


def copied_mean(pairs: list[SupportPair], case: Case) -> np.ndarray:
    """Return the mean of the support masks on every slice, uint8 ``(S, N, H, W)``; masks are stretched to its size."""
    shape = (int(case.images.shape[1]), int(case.images.shape[2]))
    return predict_mean_mask(np.stack([stretch(pair.masks, shape) for pair in pairs]), len(case.images))


def stretch(masks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return masks ``(N, h, w)`` of another size, by the nearest pixel."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(shape, masks.shape[1:], strict=True)
    )
    return masks[:, rows[:, None], columns[None, :]]
