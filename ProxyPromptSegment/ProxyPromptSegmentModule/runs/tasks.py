"""Tasks for the worker thread other than segmenting; independent of nodes.

Each is called with the engine and a context; see `ProxyPromptSegmentLib.worker.thread`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.frames import FrameArray
from ProxyPromptSegmentLib.imaging.geometry import SliceView, VolumeGeometry
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.mending import mended
from ProxyPromptSegmentLib.imaging.volumes import Volume, check_intensities
from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand
from ProxyPromptSegmentLib.inference.job import plan_ahead
from ProxyPromptSegmentLib.inference.tiling.choice import OFF
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.reports.doubts import slices_to_look_at
from ProxyPromptSegmentLib.reports.results_table import arrays_of, object_table
from ProxyPromptSegmentLib.reports.run_record import record_text, run_record
from ProxyPromptSegmentLib.review.check import check_case
from ProxyPromptSegmentLib.review.findings import Finding
from ProxyPromptSegmentLib.review.leave_one_out import leave_one_out, trial_findings
from ProxyPromptSegmentLib.review.suggest import rank, warning
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.tracking.result import frames_of_volume
from ProxyPromptSegmentLib.weights.earlier import MadeWith
from ProxyPromptSegmentLib.worker.tasks import FramesTask, PrepareTask, SegmentTask
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.runs import indistinct
from ProxyPromptSegmentModule.runs.request import Settings

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentLib.reports.doubts import Doubt
    from ProxyPromptSegmentLib.reports.results_table import ResultArrays, Table
    from ProxyPromptSegmentLib.review.suggest import Suggestion
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.tracking.result import FramesResult
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.engine import Engine
    from ProxyPromptSegmentLib.worker.model_store import LoadedModel


@dataclass(frozen=True, eq=False, kw_only=True)
class CineTask:
    """The task that segments the frames of a cine; returns a `FramesResult`.

    SAM 2 models track objects in time order. Other models have no memory: they treat the frames like slices of a stack
    and average each prediction with its neighbours.

    Attributes:
        job: The job of the first frame.
        frames: Frames in the orientation of the job's view, ``(T, H, W)`` or ``(T, H, W, 3)``.
        settings: The settings; ``follow`` is whether the memory of earlier frames is used.
    """

    job: Job
    frames: npt.NDArray[np.float32]
    settings: Settings

    def __call__(self, engine: Engine, context: Context) -> FramesResult:
        """Do the work on the worker thread."""
        from ProxyPromptSegmentLib.networks.protocols import has_memory

        settings = self.settings
        frames, mending = mended(self.frames, f"'{self.job.name}'")
        window, notes = intensity_window(frames), [Note(mending)] if mending else []
        if has_memory(_segmenter(engine, settings).model.backbone):
            task = FramesTask(
                FrameArray(frames, self.job.view.spacing_mm),
                self.job.support_set,
                window=window,
                model=settings.model,
                device=settings.device,
                precision=settings.precision,
                threshold=settings.threshold,
                mode=TrackingMode.PROXY_AND_BANK if settings.follow else TrackingMode.PROXY_ONLY,
                most_read=settings.most_read,
            )
            found = task(engine, context)
            found.notes += [*notes, *map(Note, _sentences_on(found))]
            return found
        stack = _as_stack(self.job, frames, window)
        task_on_stack = SegmentTask(
            stack,
            model=settings.model,
            device=settings.device,
            precision=settings.precision,
            threshold=settings.threshold,
            tiles=settings.tiles,
            most_read=settings.most_read,
            in_time=True,
        )
        found = frames_of_volume(task_on_stack(engine, context), stack.slices, window)
        found.notes += notes
        return found


def _sentences_on(found: FramesResult) -> list[str]:
    """Return sentences about skipped frames, and frames to review because support and memory disagree."""
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
    """Return the same job for frames that are stacked like slices."""
    (row, column), (count, height, width) = job.view.spacing_mm, frames.shape[:3]
    geometry = VolumeGeometry((width, height, count), (column, row, 1.0))
    return replace(
        job,
        target=Volume(frames, geometry, job.name),
        view=SliceView("k", False, False, False, job.view.spacing_mm),
        slices=tuple(range(count)),
        window=window,
        backwards=None,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Summary:
    """The summary of a run.

    Attributes:
        table: One row for each object.
        doubts: Slices to review first.
        record: The run record.
        text: The run record as text.
        nothing_found: Whether all masks are empty.
        notes: Notes for the user.
        confidence: Confidence of each slice that was done, by object name and slice; 0..1.
    """

    table: Table
    doubts: list[Doubt]
    record: dict[str, object]
    text: str
    nothing_found: bool
    notes: tuple[str, ...] = ()
    confidence: Mapping[str, Mapping[int, float]] = field(default_factory=dict)


def confidence_by_slice(arrays: ResultArrays) -> dict[str, dict[int, float]]:
    """Return the confidence of each slice that was done, by object name and slice; in hundredths."""
    done = [int(index) for index in np.flatnonzero(arrays.done)]
    return {
        name: {index: round(float(arrays.confidence[index, number]), 2) for index in done}
        for number, name in enumerate(arrays.objects)
    }


@dataclass(frozen=True, eq=False, kw_only=True)
class SummaryTask:
    """The task that summarises a run, because counting voxels would block the main thread."""

    job: Job
    result: VolumeResult | FramesResult
    cases: Sequence[SupportCase]
    settings: Settings
    objects: tuple[str, ...] | None
    started: datetime
    sentences: tuple[str, ...]
    mode: str = ""
    by_hand: ByHand = ByHand()

    def __call__(self, engine: Engine, context: Context) -> Summary:
        """Do the work on the worker thread."""
        record = run_record(
            self.job,
            self.result,
            self.result.model,
            {
                "model": self.settings.model,
                "axis": self.settings.axis,
                "threshold": self.settings.threshold,
                "objects": list(self.objects) if self.objects else None,
                "tiles": self.settings.tiles,
                "follow": self.settings.follow,
                "fill_gaps": self.settings.fill_gaps,
                "most_read": self.settings.most_read,
                "position": self.settings.position,
                "register": self.settings.register,
                "closer": self.settings.closer,
                "max_slices": self.settings.max_slices,
                **({"mode": self.mode} if self.mode else {}),
                **_settings_of(self.by_hand),
            },
            self.result.device,
            self.cases,
            started=self.started,
            rungs=self.result.rungs,
            sentences=[*map(worded, self.job.notes), *self.sentences],
        )
        arrays = arrays_of(self.result, self.job)  # once: the masks of frames are packed
        return Summary(
            table=object_table(arrays),
            doubts=slices_to_look_at(arrays),
            record=record,
            text=record_text(record),
            nothing_found=self.result.empty,
            notes=indistinct.sentences(self.job.support, arrays.masks),
            confidence=confidence_by_slice(arrays),
        )


def _settings_of(said: ByHand) -> dict[str, object]:
    """Return what was said by hand as the command line's options have it; of masks only the objects."""
    options = {
        "point": [str(one) for one in said.points],
        "box": [str(one) for one in said.boxes],
        "mask": [one.object for one in said.masks],
    }
    return {name: listed for name, listed in options.items() if listed}


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckTask:
    """The task that checks supports, optionally with leave-one-out; returns a list of `Finding`."""

    cases: Sequence[SupportCase]
    settings: Settings
    leave_one_out: bool

    def __call__(self, engine: Engine, context: Context) -> list[Finding]:
        """Do the work on the worker thread."""
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
            facts = _loaded(engine, self.settings).facts
            tested = MadeWith(name=facts.name, sha256=facts.sha256)
            findings.append(Finding("info", f"The trials were made with the model {tested.title}."))
        return findings


@dataclass(frozen=True, eq=False, kw_only=True)
class SuggestTask:
    """The task that ranks a library by likeness to the target; returns ``(suggestions, warning)``."""

    library: SupportLibrary
    voxels: npt.NDArray[np.number]
    geometry: VolumeGeometry
    name: str
    settings: Settings

    def __call__(self, engine: Engine, context: Context) -> tuple[list[Suggestion], str]:
        """Do the work on the worker thread."""
        array, mending = mended(self.voxels.astype(np.float32), f"'{self.name}'")
        check_intensities(array, self.name)
        target = Volume(array, self.geometry, self.name)
        segmenter = _segmenter(engine, self.settings)
        found = rank(
            self.library, target, segmenter, axis=self.settings.axis, progress=context.progress, cancel=context.cancel
        )
        return found, " ".join(part for part in (mending, warning(found)) if part)


@dataclass(frozen=True, eq=False, kw_only=True)
class WarmUpTask:
    """The task that loads torch and the model before the first run."""

    settings: Settings

    def __call__(self, engine: Engine, context: Context) -> None:
        """Do the work on the worker thread."""
        _segmenter(engine, self.settings)


@dataclass(frozen=True, eq=False, kw_only=True)
class PrepareAheadTask:
    """The task that prepares supports before the first run needs them; returns whether all are prepared.

    Attributes:
        cases: The supports.
        objects: Names of the objects, or None.
        target: The target's geometry.
        settings: The settings of the run.
    """

    cases: Sequence[SupportCase]
    objects: tuple[str, ...] | None
    target: VolumeGeometry
    settings: Settings

    def __call__(self, engine: Engine, context: Context) -> bool:
        """Do the work on the worker thread."""
        settings = self.settings
        job = plan_ahead(self.cases, self.target, self.objects, settings.axis, settings.max_slices)
        if context.cancel.cancelled:
            return False
        task = PrepareTask(
            job,
            model=settings.model,
            device=settings.device,
            precision=settings.precision,
            tiles=OFF if settings.follow else settings.tiles,
            closer=settings.closer and not settings.follow,
        )
        return task(engine, context)


def _loaded(engine: Engine, settings: Settings) -> LoadedModel:
    """Return the model that runs use as well; it is loaded once."""
    from ProxyPromptSegmentLib.networks.devices import choose_device

    return engine.open(settings.model, str(choose_device(settings.device)))


def _segmenter(engine: Engine, settings: Settings) -> Segmenter:
    """Return the segmenter of `_loaded`."""
    return _loaded(engine, settings).segmenter
