"""The engine, which carries out the tasks of `tasks` with the models and caches of a `ModelStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.worker import everything_task, frames_task, prepare_task, segment_task
from ProxyPromptSegmentLib.worker.model_store import ModelStore

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.attribution import Why
    from ProxyPromptSegmentLib.inference.by_hand.result import EverythingResult
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
    from ProxyPromptSegmentLib.tracking.result import FramesResult
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.tasks import (
        EverythingTask,
        FramesTask,
        LiveSlice,
        LiveTask,
        PrepareTask,
        SegmentTask,
        WhyTask,
    )


class Engine(ModelStore):
    """The models, prepared supports and embeddings that tasks compute with, and a method for each kind of task.

    Belongs to one thread: Slicer's worker thread, or the one that runs a command.
    """

    def segment(self, task: SegmentTask, context: Context) -> VolumeResult:
        """Carry out a `SegmentTask`."""
        return segment_task.segment(task, self, context)

    def follow(self, task: FramesTask, context: Context) -> FramesResult:
        """Carry out a `FramesTask`."""
        return frames_task.follow_frames(task, self, context)

    def preview(self, task: LiveTask, context: Context) -> LiveSlice:
        """Carry out a `LiveTask`."""
        return segment_task.live(task, self, context)

    def explain(self, task: WhyTask, context: Context) -> Why:
        """Carry out a `WhyTask`."""
        return segment_task.why(task, self, context)

    def find_everything(self, task: EverythingTask, context: Context) -> EverythingResult:
        """Carry out an `EverythingTask`."""
        return everything_task.everything(task, self, context)

    def prepare(self, task: PrepareTask, context: Context) -> bool:
        """Carry out a `PrepareTask`."""
        return prepare_task.prepare(task, self, context)
