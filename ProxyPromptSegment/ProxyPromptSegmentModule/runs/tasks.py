"""Tasks of a run that the worker thread computes besides segmenting; they know nothing of nodes.

Each is called with the engine and a context, see `ProxyPromptSegmentLib.worker.thread`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.frames import FrameArray
from ProxyPromptSegmentLib.imaging.geometry import SliceView, VolumeGeometry
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.volumes import Volume, check_intensities
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.reports.results_table import object_table, slices_to_look_at
from ProxyPromptSegmentLib.reports.run_record import record_text, run_record
from ProxyPromptSegmentLib.review.check import check_case
from ProxyPromptSegmentLib.review.leave_one_out import leave_one_out, trial_findings
from ProxyPromptSegmentLib.review.suggest import rank, warning
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.tracking.result import frames_of_volume
from ProxyPromptSegmentLib.worker.tasks import FramesTask, SegmentTask
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.runs.request import Settings

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentLib.reports.results_table import Doubt, Table
    from ProxyPromptSegmentLib.review.findings import Finding
    from ProxyPromptSegmentLib.review.suggest import Suggestion
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.tracking.result import FramesResult
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.engine import Engine


@dataclass(frozen=True, eq=False, kw_only=True)
class PlanTask:
    """Turns supports and target the same way and chooses their slices; the outcome is a `Job`.

    Attributes:
        cases: Supports.
        voxels: The target as stored, a copy of the task's own.
        geometry: The target's `VolumeGeometry`.
        name: The target's name.
        objects: Names of the objects, or None.
        slices: Slices of the target, or None.
        settings: Axis and number of support slices.
    """

    cases: Sequence[SupportCase]
    voxels: npt.NDArray[np.number]
    geometry: VolumeGeometry
    name: str
    objects: tuple[str, ...] | None
    slices: Sequence[int] | None
    settings: Settings

    def __call__(self, engine: Engine, context: Context) -> Job:
        """Runs on the worker thread."""
        context.progress.start(1, "reading support and target")
        volume = Volume(self.voxels.astype(np.float32), self.geometry, self.name)
        check_intensities(volume.array, self.name)
        job = plan(
            list(self.cases), volume, self.objects, self.settings.axis, self.slices, max_slices=self.settings.max_slices
        )
        context.progress.step()
        return job


@dataclass(frozen=True, eq=False, kw_only=True)
class CineTask:
    """Segments the frames of a cine; the outcome is a `FramesResult`.

    A model of the SAM 2 kind follows them strictly in time. Another one has no memory: it takes them for the slices of
    a stack, and averages each with its neighbours.

    Attributes:
        job: Planned for the first frame.
        frames: Turned as the job's view turns them, ``(T, H, W)`` or ``(T, H, W, 3)``.
        settings: Model and so on; ``follow`` whether the memory of earlier frames is used.
    """

    job: Job
    frames: npt.NDArray[np.float32]
    settings: Settings

    def __call__(self, engine: Engine, context: Context) -> FramesResult:
        """Runs on the worker thread."""
        from ProxyPromptSegmentLib.networks.protocols import has_memory

        settings, window = self.settings, intensity_window(self.frames)
        if has_memory(_segmenter(engine, settings).model.backbone):
            task = FramesTask(
                FrameArray(self.frames, self.job.view.spacing_mm),
                self.job.support,
                window=window,
                model=settings.model,
                device=settings.device,
                threshold=settings.threshold,
                mode=TrackingMode.PROXY_AND_BANK if settings.follow else TrackingMode.PROXY_ONLY,
            )
            found = task(engine, context)
            found.notes += map(Note, _sentences_on(found))
            return found
        stack = _as_stack(self.job, self.frames, window)
        task_on_stack = SegmentTask(stack, model=settings.model, device=settings.device, threshold=settings.threshold)
        return frames_of_volume(task_on_stack(engine, context), stack.slices, window)


def _sentences_on(found: FramesResult) -> list[str]:
    """Sentences about frames that were skipped, or that should be reviewed because support and memory disagree."""
    notes = [f"Frame {index} was skipped: {reason}." for index, reason in sorted(found.skipped.items())]
    for name in found.objects:
        count = sum(name in names for names in found.disagreeing.values())
        if count:
            notes.append(
                f"On {count} frames the proxy prompt alone and the memory of the frames before disagree about "
                f"'{name}'; review them."
            )
    return notes


def _as_stack(job: Job, frames: npt.NDArray[np.float32], window: tuple[float, float]) -> Job:
    """The same job for frames that lie behind each other like slices."""
    (row, column), (count, height, width) = job.view.spacing_mm, frames.shape[:3]
    geometry = VolumeGeometry((width, height, count), (column, row, 1.0))
    return replace(
        job,
        target=Volume(frames, geometry, job.name),
        view=SliceView("k", False, False, False, job.view.spacing_mm),
        slices=tuple(range(count)),
        window=window,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Summary:
    """What is shown after a run: rows of the table, slices to look at first, the record and its text."""

    table: Table
    doubts: list[Doubt]
    record: dict[str, object]
    text: str


@dataclass(frozen=True, eq=False, kw_only=True)
class SummaryTask:
    """Counts, doubts and the record of a finished run; large arrays are counted off the main thread."""

    job: Job
    result: VolumeResult | FramesResult
    cases: Sequence[SupportCase]
    settings: Settings
    objects: tuple[str, ...] | None
    started: datetime
    sentences: tuple[str, ...]
    mode: str = ""

    def __call__(self, engine: Engine, context: Context) -> Summary:
        """Runs on the worker thread."""
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
            sentences=[*map(worded, self.job.notes), *self.sentences],
        )
        return Summary(
            table=object_table(self.result, self.job),
            doubts=slices_to_look_at(self.result, job=self.job),
            record=record,
            text=record_text(record),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckTask:
    """Checks supports, and segments each by the others where asked; the outcome is a list of `findings.Finding`."""

    cases: Sequence[SupportCase]
    settings: Settings
    leave_one_out: bool

    def __call__(self, engine: Engine, context: Context) -> list[Finding]:
        """Runs on the worker thread."""
        findings = []
        for number, case in enumerate(self.cases):
            others = [other for n, other in enumerate(self.cases) if n != number]
            for finding in check_case(case, others):
                named = f"{case.volume.name}: {finding.text}" if others else finding.text
                findings.append(replace(finding, text=named))
        if self.leave_one_out:
            segmenter = _segmenter(engine, self.settings)
            answers = leave_one_out(segmenter, self.cases, None, context.progress, context.cancel)
            findings += trial_findings(answers, [case.volume.name for case in self.cases])
        return findings


@dataclass(frozen=True, eq=False, kw_only=True)
class SuggestTask:
    """Ranks a library by likeness to the target; the outcome is ``(suggestions, warning)``."""

    library: SupportLibrary
    voxels: npt.NDArray[np.number]
    geometry: VolumeGeometry
    name: str
    settings: Settings

    def __call__(self, engine: Engine, context: Context) -> tuple[list[Suggestion], str]:
        """Runs on the worker thread."""
        target = Volume(self.voxels.astype(np.float32), self.geometry, self.name)
        segmenter = _segmenter(engine, self.settings)
        found = rank(
            self.library, target, segmenter, axis=self.settings.axis, progress=context.progress, cancel=context.cancel
        )
        return found, warning(found)


@dataclass(frozen=True, eq=False, kw_only=True)
class WarmUpTask:
    """Loads torch and the model before somebody presses Apply; loading holds Python's lock for moments."""

    settings: Settings

    def __call__(self, engine: Engine, context: Context) -> None:
        """Runs on the worker thread."""
        _segmenter(engine, self.settings)


def _segmenter(engine: Engine, settings: Settings) -> Segmenter:
    """The model that runs use too, loaded once."""
    from ProxyPromptSegmentLib.networks.devices import choose_device

    return engine.open(settings.model, str(choose_device(settings.device))).segmenter
