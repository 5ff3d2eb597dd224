"""Estimates of time and memory, made beside the main thread, and the measured speeds that they are based on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentLib.imaging.geometry import AXES, auto_axis, slice_spacing_mm
from ProxyPromptSegmentLib.inference.tiling.choice import OFF, TileChoice
from ProxyPromptSegmentLib.inference.tiling.forecast import forecast
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
from ProxyPromptSegmentLib.worker.estimate import SpeedRecord, architecture_of, estimate
from ProxyPromptSegmentLib.worker.tile_work import TileWork
from ProxyPromptSegmentModule.runs.beside import Beside
from ProxyPromptSegmentModule.runs.request import Request, Settings
from ProxyPromptSegmentModule.runs.run import Run
from ProxyPromptSegmentModule.scene import nodes
from ProxyPromptSegmentModule.states import RunState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.estimate import Estimate

SPEEDS_SETTING = "ProxyPromptSegment/speeds"

EstimateAnswer = Callable[["Estimate | None", str], None]
"""Called on the main thread with the estimate and "", or with None and the reason."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EstimateTask:
    """The task that estimates a run; without nodes and without torch, so it may run on any thread.

    Attributes:
        cases: Supports.
        objects: Names of the objects; by default those that all supports have.
        settings: Settings of the run.
        count: Number of slices to segment.
        shape: Rows and columns of a slice.
        spacing_mm: Its pixel size (row, column).
        voxels: Number of voxels of the target and of the supports that are registered to it.
        measured: Speeds of earlier runs.
    """

    cases: Sequence[SupportCase]
    objects: tuple[str, ...] | None
    settings: Settings
    count: int
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    voxels: int
    measured: SpeedRecord

    def __call__(self, engine: object = None, context: Context | None = None) -> Estimate:
        """Look through the masks of the supports, which takes half a second for five structures on 300 slices.

        Raises:
            ProxyPromptError: If the model is unknown, or a support has none of the objects.
        """
        settings = self.settings
        objects = len(self.objects) if self.objects else 1
        if not self.cases:  # the model needs no support
            return estimate(
                settings.model,
                settings.device,
                self.count,
                self.shape,
                0,
                objects,
                measured=self.measured,
                voxels=self.voxels,
            )
        found = forecast(
            self.cases,
            self.objects,
            self.shape,
            self.spacing_mm,
            architecture_of(settings.model).logits,
            TileChoice.of(OFF if settings.follow else settings.tiles),
            settings.max_slices,
            settings.closer and not settings.follow,
        )
        return estimate(
            settings.model,
            settings.device,
            self.count,
            self.shape,
            settings.max_slices,
            objects,
            tiles=TileWork.planned(found.tiles, settings.max_slices),
            measured=self.measured,
            closer=len(found.closer),
            voxels=self.voxels,
        )


class Estimates(Beside):
    """Estimates on a thread of their own: neither a run nor the import of torch delays them. Main thread only."""

    def __init__(self) -> None:
        """Have no thread; it starts with the first question."""
        super().__init__("ProxyPromptEstimates")
        self._speeds: SpeedRecord | None = None

    def task(self, request: Request) -> EstimateTask:
        """Return the task for a request, with what is read from nodes."""
        settings, target = request.settings, request.target
        axis = settings.axis if settings.axis in AXES else auto_axis(nodes.geometry_of(target))
        shape = list(nodes.check_volume(target).GetDimensions()[::-1])
        voxels = math.prod(shape)
        if settings.register and not settings.follow:
            voxels += sum(math.prod(case.volume.geometry.size_ijk) for case in request.cases)
        count = shape.pop(AXES.index(axis))
        return EstimateTask(
            cases=request.cases,
            objects=tuple(request.objects) if request.objects else None,
            settings=settings,
            count=count if request.slices is None else max(1, len(request.slices)),
            shape=(shape[0], shape[1]),
            spacing_mm=slice_spacing_mm(nodes.geometry_of(target), axis),
            voxels=voxels,
            measured=self.speeds(),
        )

    def ask(self, request: Request, on_answer: EstimateAnswer) -> None:
        """Ask for an estimate; a newer question replaces an older one, which then gets no answer."""
        self.put(self.task(request), _("Estimate"), "estimate", on_answer)

    def speeds(self) -> SpeedRecord:
        """Return the measured speeds of this machine."""
        if self._speeds is None:
            self._speeds = SpeedRecord.from_dict(_read_setting())
        return self._speeds

    def learn(self, run: Run) -> None:
        """Store the speed of a finished run for estimates, also of later sessions."""
        found = run.result
        if run.state != RunState.FINISHED or not isinstance(found, VolumeResult):
            return  # a cancelled run is not representative, and a cine is measured differently
        if run.job is not None and run.job.reslicing is not None:
            return  # other slices were segmented than those of the result
        self._speeds = self.speeds().learned(
            run.request.settings.model,
            found.device,
            found.seconds["segmentation"],
            found.slices,
            found.embedded,
            found.pairs,
            len(found.objects),
            TileWork.done(found.tiles),
            len(found.helps.closer),
        )
        _write_setting(self._speeds.to_dict())


def _read_setting() -> object:
    """Return the stored speeds of earlier sessions; None without settings (scripts, tests)."""
    try:
        return json.loads(slicer.app.userSettings().value(SPEEDS_SETTING, "{}"))
    except (AttributeError, TypeError, ValueError):
        return None


def _write_setting(values: dict[str, object]) -> None:
    try:
        settings = slicer.app.userSettings()
    except AttributeError:  # a script without an application object
        return
    settings.setValue(SPEEDS_SETTING, json.dumps(values))
