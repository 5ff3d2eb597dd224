"""The paper's prompt: how far its tokens carry the task alone.

References:
    Proxy Prompt, section 3: the sparse tokens are the whole prompt; the dense prompt is an addition of this program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.evaluation.broad.answers import Encoded, ask, dice_records
from ProxyPromptSegmentLib.evaluation.broad.records import Record
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs, support_set

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.evaluation.broad.tasks import Task
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

NAME = "prompt"
WHOLE, TOKENS = "whole prompt", "tokens alone"
NOISE, DENSE = "noise for the tokens, no dense prompt", "dense prompt alone"


def score_prompt(
    segmenter: Segmenter, task: Task, case: Case, supports: int, draw: int, encoded: Encoded | None = None
) -> list[Record]:
    """Score a target with the whole prompt and with parts of it; the supports are the same."""
    from ProxyPromptSegmentLib.evaluation.broad import changed_prompt as changed

    pairs = draw_pairs(task.pool, case, supports, draw)
    if len(pairs) < supports:
        return []
    encoded = {} if encoded is None else encoded
    prepared = segmenter.prepare(support_set(pairs, case))
    records: list[Record] = []
    changes = {TOKENS: changed.tokens_alone, NOISE: changed.noise_alone, DENSE: changed.dense_alone}
    twins = {WHOLE: segmenter, **{name: changed.with_change(segmenter, change) for name, change in changes.items()}}
    for condition, twin in twins.items():
        answer = ask(twin, case, prepared, encoded)
        records += dice_records(
            task, case, case.masks, answer.masks, measure=NAME, condition=condition, supports=supports, draw=draw
        )
    return records
