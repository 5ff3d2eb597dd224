"""The mask is followed: the supports' masks are changed, and so is what counts as the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.evaluation.broad.answers import Encoded, ask, dice_records
from ProxyPromptSegmentLib.evaluation.broad.mask_changes import CHANGES, Change, change_masks
from ProxyPromptSegmentLib.evaluation.broad.records import Record
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs, slices_with_all, support_set
from ProxyPromptSegmentLib.evaluation.in_context import pair_of
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.metrics import dice_per_slice

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.evaluation.broad.tasks import Task
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.support.pairs import SupportPair

NAME, OWN = "mask followed", "mask followed, target is the support"
OWN_SLICES = 4


def score_followed(
    segmenter: Segmenter, task: Task, case: Case, supports: int, draw: int, encoded: Encoded | None = None
) -> list[Record]:
    """Score a target with changed supports of other patients, over all of its voxels; the truth is changed alike."""
    pairs = draw_pairs(task.pool, case, supports, draw)
    if len(pairs) < supports:
        return []
    encoded = {} if encoded is None else encoded
    records: list[Record] = []
    for condition, change in CHANGES.items():
        answer = ask(segmenter, case, support_set([_changed(pair, change) for pair in pairs], case), encoded)
        truth = change_masks(case.masks, change)
        records += dice_records(
            task, case, truth, answer.masks, measure=NAME, condition=condition, supports=supports, draw=draw
        )
    return records


def score_own(segmenter: Segmenter, task: Task, case: Case) -> list[Record]:
    """Score slices of a target of which each is its own support; the mean over these slices."""
    shown = slices_with_all(case)
    chosen = sorted({shown[int(n)] for n in np.linspace(0, len(shown) - 1, OWN_SLICES + 2).round()[1:-1]})
    scores: dict[tuple[str, str], list[float]] = {}
    window = intensity_window(case.images)
    for index in chosen:
        pair = pair_of(case, index)
        encoded: Encoded = {}
        for condition, change in CHANGES.items():
            support = support_set([_changed(pair, change)], case)
            result = segmenter.segment(
                case.images[index : index + 1], support, window, pair.spacing_mm, encoded=encoded
            )
            truth, masks = change_masks(case.masks[index : index + 1], change), result.masks()
            for n, name in enumerate(case.objects):
                scores.setdefault((name, condition), []).append(float(dice_per_slice(truth[:, n], masks[:, n])[0]))
    return [
        Record(
            measure=OWN,
            dataset=task.dataset,
            object=name,
            condition=condition,
            supports=1,
            case=case.name,
            patient=task.unit(case),
            score=float(np.mean(found)),
        )
        for (name, condition), found in scores.items()
    ]


def _changed(pair: SupportPair, change: Change) -> SupportPair:
    """Return a pair with changed masks; one that the change would empty, a pixel or two, stays as it is."""
    masks = change_masks(pair.masks, change)
    kept = [new if new.any() else old for new, old in zip(masks, pair.masks, strict=True)]
    return replace(pair, masks=np.stack(kept))
