"""All measurements of one model, in units of work that a file of scores remembers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.broad import baselines, in_context, mask_followed, memory, paper_prompt, refusal
from ProxyPromptSegmentLib.evaluation.broad.records import Record, ScoreFile
from ProxyPromptSegmentLib.evaluation.broad.tasks import VALIDATION, Task, set_names, tasks_of

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.evaluation.broad.answers import Encoded
    from ProxyPromptSegmentLib.evaluation.broad.trunk_matching import TrunkMatching
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

CONTEXT, FOLLOWED, PROMPT, REFUSAL, BASELINES = "context", "followed", "prompt", "refusal", "baselines"
MEMORY = "memory"
MEASURES = (CONTEXT, FOLLOWED, PROMPT, REFUSAL, BASELINES, MEMORY)
QUICK = (CONTEXT, FOLLOWED)
FOLLOWED_SETS, PROMPT_SETS = ("promise12",), ("promise12", "psfhs")

Unit = tuple[tuple[object, ...], Callable[[], list[Record]]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured.

    Attributes:
        data: Folder of the data sets.
        part: ``validation`` or ``test``.
        measures: Some of `MEASURES`.
        sets: Sets as `set_names` understands them; all by default.
        supports: The numbers ``K`` of supports; measurements other than in context take the largest up to 4.
        draws: Draws of supports per target.
        limit: Largest number of patients or images per set.
        trunk: ImageNet weights of the trunk, for the baseline that matches its features.
    """

    data: Path
    part: str = VALIDATION
    measures: Sequence[str] = QUICK
    sets: Sequence[str] | None = None
    supports: Sequence[int] = (4,)
    draws: int = 1
    limit: int | None = None
    trunk: Path | None = None

    def __post_init__(self) -> None:
        """Raise a `UsageError` for a measurement that does not exist."""
        unknown = [name for name in self.measures if name not in MEASURES]
        if unknown:
            raise UsageError(f"there is no measurement '{unknown[0]}'; choose some of {', '.join(MEASURES)}")

    @property
    def usual(self) -> int:
        """The number of supports where it is not varied."""
        return max([k for k in self.supports if k <= 4], default=min(self.supports))


def measure(
    segmenter: Segmenter, plan: Plan, file: ScoreFile, on_case: Callable[[str, int, int], None] | None = None
) -> None:
    """Measure what the file does not have yet.

    Args:
        segmenter: The model.
        plan: What to measure.
        file: Where each unit of work is written when it is done.
        on_case: Called after each target with its set's name, the number of targets done and of the task's.

    Raises:
        UsageError: If a memory is to be measured that the model does not have.
    """
    if MEMORY in plan.measures:
        from ProxyPromptSegmentLib.evaluation.tracking import check_memory

        check_memory(segmenter)
    pools = refusal.strangers(plan.data) if REFUSAL in plan.measures else {}
    matching = None
    if BASELINES in plan.measures and plan.trunk is not None:
        from ProxyPromptSegmentLib.evaluation.broad.trunk_matching import TrunkMatching
        from ProxyPromptSegmentLib.networks.imagenet_trunk import load_imagenet

        matching = TrunkMatching(load_imagenet(plan.trunk))
    for task in tasks_of(plan.data, set_names(plan.data, plan.sets), plan.part, plan.limit):
        for number, case in enumerate(task.targets):
            units = itertools.chain(
                _draws(segmenter, plan, task, case, matching), _once(segmenter, plan, task, number, pools)
            )
            for unit, work in units:
                if not file.has(unit):
                    file.add(unit, work())
            if on_case:
                on_case(task.dataset, number + 1, len(task.targets))


def _draws(segmenter: Segmenter, plan: Plan, task: Task, case: Case, matching: TrunkMatching | None) -> Iterator[Unit]:
    """Yield the units of work of one target that depend on the draw; they share the embeddings of its slices."""
    encoded: Encoded = {}
    place = _place(task, case)
    for draw in range(plan.draws):
        for k in plan.supports:
            if CONTEXT in plan.measures:
                yield (
                    (in_context.NAME, *place, k, draw),
                    partial(in_context.score_in_context, segmenter, task, case, k, draw, encoded),
                )
            if BASELINES in plan.measures:
                yield (
                    (BASELINES, matching is not None, *place, k, draw),
                    partial(baselines.score_baselines, task, case, k, draw, matching),
                )
        if FOLLOWED in plan.measures and task.dataset in FOLLOWED_SETS:
            yield (
                (mask_followed.NAME, *place, plan.usual, draw),
                partial(mask_followed.score_followed, segmenter, task, case, plan.usual, draw, encoded),
            )
        if PROMPT in plan.measures and task.dataset in PROMPT_SETS:
            yield (
                (paper_prompt.NAME, *place, plan.usual, draw),
                partial(paper_prompt.score_prompt, segmenter, task, case, plan.usual, draw, encoded),
            )


def _once(
    segmenter: Segmenter, plan: Plan, task: Task, number: int, pools: dict[refusal.Stranger, list[Case]]
) -> Iterator[Unit]:
    """Yield the units of work of one target that do not share the embeddings of its slices."""
    case, k = task.targets[number], plan.usual
    place = _place(task, case)
    if FOLLOWED in plan.measures and task.dataset in FOLLOWED_SETS:
        yield (mask_followed.OWN, *place), partial(mask_followed.score_own, segmenter, task, case)
    if MEMORY in plan.measures:
        for draw in range(plan.draws):
            yield (memory.NAME, *place, k, draw), partial(memory.score_memory, segmenter, task, case, k, draw)
    if REFUSAL in plan.measures and not (task.small and number >= refusal.SMALL_TARGETS):
        encoded: Encoded = {}
        yield (
            (refusal.NAME, refusal.FOREIGN, *place, k),
            partial(refusal.score_foreign, segmenter, task, number, k, pools, encoded),
        )
        yield (
            (refusal.NAME, refusal.EMPTIED, *place, k),
            partial(refusal.score_emptied, segmenter, task, case, k, encoded),
        )


def _place(task: Task, case: Case) -> tuple[str, ...]:
    """Return what distinguishes a target of a task from all others."""
    return task.dataset, "+".join(task.objects), case.name
