"""The task that plans a run: from supports, classes or marks by hand to a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.mending import mended
from ProxyPromptSegmentLib.imaging.volumes import Volume, check_intensities
from ProxyPromptSegmentLib.inference.by_hand.prompts import DEFAULT_OBJECT, ByHand
from ProxyPromptSegmentLib.inference.classes import plan_classes
from ProxyPromptSegmentLib.inference.job import plan, plan_without_support
from ProxyPromptSegmentLib.inference.job_by_hand import plan_by_hand, with_hand
from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
from ProxyPromptSegmentLib.inference.tiling.forecast import forecast
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.support.asked import AskedObjects
from ProxyPromptSegmentLib.worker.estimate import architecture_of
from ProxyPromptSegmentModule.runs.request import Settings

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.weights.vocabulary import PromptClass
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.engine import Engine


@dataclass(frozen=True, eq=False, kw_only=True)
class PlanTask:
    """The task that plans a run: orients supports and target and chooses their slices; returns a `Job`.

    Attributes:
        cases: Supports.
        voxels: The target's voxels as stored; a copy.
        geometry: The target's geometry.
        name: The target's name.
        objects: Names of the objects, or None.
        slices: Slices of the target, or None.
        settings: Axis and number of support slices.
        reslice: Whether a tilted target may be resampled in the plane of the supports.
        classes: Without a support: the classes that the model is asked for.
        modality: DICOM's word for the target's modality; "" if it is not known.
        any_modality: Whether classes are looked for whatever kind of image it is.
        by_hand: What is said by hand, see `Request`.
    """

    cases: Sequence[SupportCase]
    voxels: npt.NDArray[np.number]
    geometry: VolumeGeometry
    name: str
    objects: tuple[str, ...] | None
    slices: Sequence[int] | None
    settings: Settings
    reslice: bool = True
    classes: Sequence[PromptClass] = ()
    modality: str = ""
    any_modality: bool = False
    by_hand: ByHand = ByHand()

    def __call__(self, engine: Engine, context: Context) -> Job:
        """Do the work on the worker thread."""
        context.progress.start(1, "reading support and target" if self.cases else "reading the target")
        array, mending = mended(self.voxels.astype(np.float32), f"'{self.name}'")
        volume = Volume(array, self.geometry, self.name, modality=self.modality)
        check_intensities(volume.array, self.name)
        job = self._planned(volume, context)
        context.progress.step()
        return replace(job, notes=(*job.notes, Note(mending))) if mending else job

    def _planned(self, volume: Volume, context: Context) -> Job:
        settings = self.settings
        if self.classes:
            job = plan_classes(self.classes, volume, settings.axis, self.slices, self.any_modality)
            return with_hand(job, self.by_hand)
        if not self.cases and self.by_hand:
            return plan_by_hand(volume, self.by_hand, settings.axis, self.slices)
        if not self.cases:  # marks are made later
            asked = AskedObjects(self.objects or (DEFAULT_OBJECT,), by_hand=True)
            return plan_without_support(volume, asked, settings.axis, self.slices)
        job = plan(
            list(self.cases),
            volume,
            self.objects,
            settings.axis,
            self.slices,
            max_slices=settings.max_slices,
            register=settings.register and not settings.follow,
            reslice=self.reslice and not settings.follow,
            cancel=context.cancel,
        )
        return self._left_to_tiles(with_hand(job, self.by_hand)) if self.by_hand else job

    def _left_to_tiles(self, job: Job) -> Job:
        """Return a job without the marks on objects that will be segmented in tiles, which marks do not correct."""
        settings, target = self.settings, job.target
        images = job.view.take(target.array)
        planned = forecast(
            self.cases,
            job.support.objects,
            (images.shape[1], images.shape[2]),
            job.view.spacing_mm,
            architecture_of(settings.model).logits,
            TileChoice.of(settings.tiles),
            settings.max_slices,
            closer=False,
        )
        tiled = set(planned.tiles.in_tiles)
        names = sorted(
            {job.support.objects[number] for said in job.by_hand.values() for number in said if number in tiled}
        )
        if not names:
            return job
        kept = {index: {n: one for n, one in said.items() if n not in tiled} for index, said in job.by_hand.items()}
        note = Note(f"Marks on {', '.join(names)} were left out: it is segmented in tiles, which they do not correct.")
        return replace(job, by_hand={index: said for index, said in kept.items() if said}, notes=(*job.notes, note))
