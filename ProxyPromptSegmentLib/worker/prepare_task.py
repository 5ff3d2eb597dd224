"""Carries out a `PrepareTask`, before a run needs its supports; separate from `tasks` because this needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
from ProxyPromptSegmentLib.worker.slice_work import SliceWork
from ProxyPromptSegmentLib.worker.steps import Steps

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.model_store import ModelStore
    from ProxyPromptSegmentLib.worker.tasks import PrepareTask


def prepare(task: PrepareTask, engine: ModelStore, context: Context) -> bool:
    """Carry out a `PrepareTask`; it can be cancelled between two support slices."""
    if not engine.keeps_supports or context.cancel.cancelled:
        return False
    job = task.job
    steps = Steps(engine, context, task.model, task.device, job.support, precision=task.precision)
    _, rows, columns = job.view.take(job.target.array).shape[:3]
    work = SliceWork(steps, job, TileChoice.of(task.tiles), closer=task.closer)
    return steps.run(lambda segmenter: work.begin(segmenter, (rows, columns)))
