"""Tasks of a run that the worker thread computes besides segmenting; they know nothing of nodes.

Each is called with the engine and a context, see `ProxyPromptSegmentLib.worker.thread`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from ProxyPromptSegmentModule.runs.request import Settings


@dataclass(frozen=True, eq=False)
class PlanTask:
    """Turns supports and target the same way and chooses their slices; the outcome is a `jobs.Job`.

    Attributes:
        cases: Supports.
        voxels: The target as stored, a copy of the task's own.
        geometry: The target's `VolumeGeometry`.
        name: The target's name.
        objects: Names of the objects, or None.
        slices: Slices of the target, or None.
        settings: Axis and number of support slices.
    """

    cases: Sequence[Any]
    voxels: np.ndarray
    geometry: Any
    name: str
    objects: tuple[str, ...] | None
    slices: Sequence[int] | None
    settings: Settings

    def __call__(self, engine: Any, context: Any) -> Any:
        """Runs on the worker thread."""
        from ProxyPromptSegmentLib.imaging.volumes import Volume, check_intensities
        from ProxyPromptSegmentLib.inference.job import plan

        context.progress.start(1, "reading support and target")
        volume = Volume(self.voxels.astype(np.float32), self.geometry, self.name)
        check_intensities(volume.array, self.name)
        job = plan(
            list(self.cases), volume, self.objects, self.settings.axis, self.slices, max_slices=self.settings.max_slices
        )
        context.progress.step()
        return job


@dataclass(frozen=True, eq=False)
class CineTask:
    """Segments the frames of a cine; the outcome is a `tasks.FramesOutcome`.

    A model of the SAM 2 kind follows them strictly in time. Another one has no memory: it takes them for the slices of
    a stack, and averages each with its neighbours.

    Attributes:
        job: Planned for the first frame.
        frames: Turned as the job's view turns them, ``(T, H, W)`` or ``(T, H, W, 3)``.
        settings: Model and so on; ``follow`` whether the memory of earlier frames is used.
    """

    job: Any
    frames: np.ndarray
    settings: Settings

    def __call__(self, engine: Any, context: Any) -> Any:
        """Runs on the worker thread."""
        from ProxyPromptSegmentLib.imaging.intensity import intensity_window
        from ProxyPromptSegmentLib.networks.protocols import has_memory
        from ProxyPromptSegmentLib.tracking.choices import TrackingMode
        from ProxyPromptSegmentLib.worker.tasks import FramesTask, SegmentTask

        settings, window = self.settings, intensity_window(self.frames)
        if has_memory(_segmenter(engine, settings).model.backbone):
            task = FramesTask(
                self.frames,
                self.job.support,
                window,
                self.job.view.spacing_mm,
                settings.model,
                settings.device,
                settings.threshold,
                mode=TrackingMode.PROXY_AND_BANK if settings.follow else TrackingMode.PROXY_ONLY,
            )
            return task(engine, context)
        stack = SegmentTask(
            _as_stack(self.job, self.frames, window), settings.model, settings.device, settings.threshold
        )
        return _as_frames(stack(engine, context))


def _as_stack(job: Any, frames: np.ndarray, window: tuple[float, float]) -> Any:
    """The same job for frames that lie behind each other like slices."""
    from ProxyPromptSegmentLib.imaging.geometry import SliceView, VolumeGeometry
    from ProxyPromptSegmentLib.imaging.volumes import Volume

    (row, column), (count, height, width) = job.view.spacing_mm, frames.shape[:3]
    geometry = VolumeGeometry((width, height, count), (column, row, 1.0))
    return replace(
        job,
        target=Volume(frames, geometry, job.name),
        view=SliceView("k", False, False, False, job.view.spacing_mm),
        slices=tuple(range(count)),
        window=window,
    )


def _as_frames(found: Any) -> Any:
    """What a stack's `TaskOutcome` says, as that of frames."""
    from ProxyPromptSegmentLib.worker.tasks import FramesOutcome

    result, outcome = found.outcome.result, found.outcome
    return FramesOutcome(
        tuple(result.objects),
        outcome.masks,
        outcome.confidence,
        result.presence,
        np.full(result.presence.shape, np.nan, np.float32),
        np.zeros(result.presence.shape, bool),
        result.done,
        {},
        outcome.notes,
        outcome.seconds,
        found.model,
        found.device,
        found.rungs,
        found.cancelled,
        found.half,
    )


@dataclass(frozen=True, eq=False)
class Summary:
    """What is shown after a run: rows of the table, slices to look at first, the record and its text."""

    table: Any
    doubts: list[Any]
    record: dict[str, Any]
    text: str


@dataclass(frozen=True, eq=False)
class SummaryTask:
    """Counts, doubts and the record of a finished run; large arrays are counted off the main thread."""

    job: Any
    result: Any
    cases: Sequence[Any]
    settings: Settings
    objects: tuple[str, ...] | None
    started: datetime
    sentences: tuple[str, ...]
    mode: str = ""

    def __call__(self, engine: Any, context: Any) -> Summary:
        """Runs on the worker thread."""
        from ProxyPromptSegmentLib.reports.results_table import object_table, slices_to_look_at
        from ProxyPromptSegmentLib.reports.run_record import record_text, run_record

        record = run_record(
            self.job,
            self.result,
            self.result.model,
            {
                "model": self.settings.model,
                "axis": self.settings.axis,
                "threshold": self.settings.threshold,
                "objects": list(self.objects) if self.objects else None,
                "follow": self.settings.follow,
                "max_slices": self.settings.max_slices,
                **({"mode": self.mode} if self.mode else {}),
            },
            self.result.device,
            self.cases,
            started=self.started,
            rungs=self.result.rungs,
            sentences=self.sentences,
        )
        return Summary(
            object_table(self.result, self.job),
            slices_to_look_at(self.result, job=self.job),
            record,
            record_text(record),
        )


@dataclass(frozen=True, eq=False)
class CheckTask:
    """Checks supports, and segments each by the others where asked; the outcome is a list of `findings.Finding`."""

    cases: Sequence[Any]
    settings: Settings
    leave_one_out: bool

    def __call__(self, engine: Any, context: Any) -> list[Any]:
        """Runs on the worker thread."""
        from ProxyPromptSegmentLib.review.check import check_case

        findings = []
        for number, case in enumerate(self.cases):
            others = [other for n, other in enumerate(self.cases) if n != number]
            for finding in check_case(case, others):
                named = f"{case.volume.name}: {finding.text}" if others else finding.text
                findings.append(replace(finding, text=named))
        if self.leave_one_out:
            from ProxyPromptSegmentLib.review.leave_one_out import leave_one_out, trial_findings

            segmenter = _segmenter(engine, self.settings)
            answers = leave_one_out(segmenter, self.cases, None, context.progress, context.cancel)
            findings += trial_findings(answers, [case.volume.name for case in self.cases])
        return findings


@dataclass(frozen=True, eq=False)
class SuggestTask:
    """Ranks a library by likeness to the target; the outcome is ``(suggestions, warning)``."""

    library: Any
    voxels: np.ndarray
    geometry: Any
    name: str
    settings: Settings

    def __call__(self, engine: Any, context: Any) -> tuple[list[Any], str]:
        """Runs on the worker thread."""
        from ProxyPromptSegmentLib.imaging.volumes import Volume
        from ProxyPromptSegmentLib.review.suggest import rank, warning

        target = Volume(self.voxels.astype(np.float32), self.geometry, self.name)
        segmenter = _segmenter(engine, self.settings)
        found = rank(
            self.library, target, segmenter, axis=self.settings.axis, progress=context.progress, cancel=context.cancel
        )
        return found, warning(found)


@dataclass(frozen=True, eq=False)
class WarmUpTask:
    """Loads torch and the model before somebody presses Apply; loading holds Python's lock for moments."""

    settings: Settings

    def __call__(self, engine: Any, context: Any) -> None:
        """Runs on the worker thread."""
        _segmenter(engine, self.settings)


def _segmenter(engine: Any, settings: Settings) -> Any:
    """The model that runs use too, loaded once."""
    from ProxyPromptSegmentLib.networks.devices import choose_device

    return engine.open(settings.model, str(choose_device(settings.device))).segmenter
