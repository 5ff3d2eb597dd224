"""Tasks of a run that the worker thread computes besides segmenting; they know nothing of nodes.

Each is called with the engine and a context, see `ProxyPromptSegmentLib.worker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from ProxyPromptSegmentModule.request import Settings


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
        from ProxyPromptSegmentLib.jobs import plan
        from ProxyPromptSegmentLib.volumes import Volume, check_intensities

        context.progress.start(1, "reading support and target")
        volume = Volume(self.voxels.astype(np.float32), self.geometry, self.name)
        check_intensities(volume.array, self.name)
        job = plan(
            list(self.cases), volume, self.objects, self.settings.axis, self.slices, max_slices=self.settings.max_slices
        )
        context.progress.step()
        return job


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

    def __call__(self, engine: Any, context: Any) -> Summary:
        """Runs on the worker thread."""
        from ProxyPromptSegmentLib.results_table import object_table, slices_to_look_at
        from ProxyPromptSegmentLib.run_record import record_text, run_record

        record = run_record(
            self.job,
            self.result.outcome,
            self.result.model,
            {
                "model": self.settings.model,
                "axis": self.settings.axis,
                "threshold": self.settings.threshold,
                "objects": list(self.objects) if self.objects else None,
                "follow": self.settings.follow,
                "max_slices": self.settings.max_slices,
            },
            self.result.device,
            self.cases,
            started=self.started,
            rungs=self.result.rungs,
            sentences=self.sentences,
        )
        return Summary(
            object_table(self.result.outcome, self.job),
            slices_to_look_at(self.result.outcome, job=self.job),
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
        from ProxyPromptSegmentLib.support_check import check_case

        findings = []
        for number, case in enumerate(self.cases):
            others = [other for n, other in enumerate(self.cases) if n != number]
            findings += check_case(case, others)
        if self.leave_one_out:
            from ProxyPromptSegmentLib.support_trial import leave_one_out, trial_findings

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
        from ProxyPromptSegmentLib.suggest import rank, warning
        from ProxyPromptSegmentLib.volumes import Volume

        target = Volume(self.voxels.astype(np.float32), self.geometry, self.name)
        segmenter = _segmenter(engine, self.settings)
        found = rank(
            self.library, target, segmenter, axis=self.settings.axis, progress=context.progress, cancel=context.cancel
        )
        return found, warning(found)


def _segmenter(engine: Any, settings: Settings) -> Any:
    """The model that runs use too, loaded once."""
    from ProxyPromptSegmentLib.segmenter import choose_device

    return engine.open(settings.model, str(choose_device(settings.device))).segmenter
