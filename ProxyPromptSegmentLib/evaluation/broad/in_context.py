"""In context: K supports of other patients, and every slice of the target counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.evaluation.broad.answers import Encoded, ask
from ProxyPromptSegmentLib.evaluation.broad.records import Record
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs, support_set
from ProxyPromptSegmentLib.imaging.metrics import dice

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.evaluation.broad.tasks import Task
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

NAME = "in context"


def score_in_context(
    segmenter: Segmenter, task: Task, case: Case, supports: int, draw: int, encoded: Encoded | None = None
) -> list[Record]:
    """Score a target with one draw of supports, all objects at once; no record if there are too few supports."""
    pairs = draw_pairs(task.pool, case, supports, draw)
    if len(pairs) < supports:
        return []
    answer = ask(segmenter, case, support_set(pairs, case), encoded)
    return [
        Record(
            measure=NAME,
            dataset=task.dataset,
            object=name,
            supports=supports,
            draw=draw,
            case=case.name,
            patient=task.unit(case),
            score=dice(case.masks[:, n], answer.masks[:, n]),
            slices=answer.slices(case.masks[:, n], n),
        )
        for n, name in enumerate(case.objects)
    ]
