"""Requests to the logic, built from the choices in the panel; or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import slicer

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.imaging.geometry import Axis, axis_number
from ProxyPromptSegmentModule.panel.chosen_model import ChosenModel
from ProxyPromptSegmentModule.panel.chosen_objects import ChosenObjects
from ProxyPromptSegmentModule.panel.chosen_target import ChosenTarget
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.runs.request import Output, Request, Settings
from ProxyPromptSegmentModule.scene.nodes import segmentation_of
from ProxyPromptSegmentModule.scene.slice_views import slice_count, slice_on_screen
from ProxyPromptSegmentModule.states import Scope
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.runs.run import Run


class Requests:
    """The builder of requests from the choices."""

    def __init__(self, state: PanelState, objects: ChosenObjects, target: ChosenTarget, model: ChosenModel) -> None:
        """Derive everything from the state and the choices."""
        self._state, self._objects, self._target, self._model = state, objects, target, model

    def settings(self) -> Settings:
        """Return the settings: model, device, threshold, axis, tiles, memory, gaps, helps."""
        parameters, defaults = self._state.parameters, Settings()
        return Settings(
            model=parameters.model or defaults.model,
            device=parameters.device,
            threshold=round(parameters.threshold, 2),
            axis=parameters.axis,
            tiles=parameters.tiles,
            follow=parameters.followMemory and self._model.follows,
            most_read=defaults.most_read if parameters.chooseSupports else None,
            fill_gaps=parameters.fillGaps,
            position=parameters.usePosition,
            register=parameters.registerSupports,
        )

    def reason(self) -> str:
        """Return why Apply cannot be pressed, as a sentence that says what to do; "" if it can."""
        state = self._state
        if state.obstacle or state.table is None:
            return state.obstacle or _("Some packages are not installed yet.")
        rows = state.table.rows()
        if not rows:
            return _("Add a support first: select an annotated case above and press “Add as support”.")
        if not state.used_rows():
            problem = next((row.problem for row in rows if row.used and row.problem), "")
            return problem or _("Tick at least one support in the table.")
        return (
            self._objects.reason()
            or (_("Select the volume to segment.") if state.parameters.targetVolume is None else "")
            or self._target.reason()
            or self._model.reason()
        )

    def request(self) -> Request:
        """Return the request that Apply starts; only valid if `reason` returns "".

        Raises:
            ProxyPromptError: If a support cannot be read.
        """
        self._target.look_again()
        scope, target, table = self._target.scope(), self._state.parameters.targetVolume, self._state.table
        assert target is not None and table is not None  # otherwise there is a reason
        axis, settings, slices = self._target.axis(), self.settings(), self._target.slices()
        replaced, kept = self._replaceable(scope, axis)
        if kept and scope != Scope.LIVE:
            every = range(slice_count(target, axis)) if slices is None else slices
            slices = tuple(index for index in every if index not in kept)
        if slices is not None or scope in (Scope.SLICES, Scope.BOX, Scope.LIVE):
            settings = replace(settings, axis=axis)  # slice numbers are only valid along this axis
        first = None if scope == Scope.SEQUENCE else slice_on_screen(slicer.mrmlScene, target, axis)
        if first is not None and (first in kept or (slices is not None and first not in slices)):
            first = None
        objects = self._objects.names()
        return Request(
            target=target,
            cases=tuple(table.cases(objects)),
            objects=objects,
            slices=slices,
            first=first,
            settings=settings,
            output=self._output(replaced),
            browser=self._target.browser() if scope == Scope.SEQUENCE else None,
        )

    def corrected_slices(self, axis: str) -> tuple[int, ...]:
        """Return slices of the result that were corrected and added as a support; they are kept unchanged."""
        parameters = self._state.parameters
        if parameters.targetVolume is None or parameters.outputSegmentation is None:
            return ()
        ids = (parameters.targetVolume.GetID(), parameters.outputSegmentation.GetID())
        return tuple(
            index
            for row in self._state.support_rows()
            if (row.volume_id, row.segmentation_id) == ids and row.axis == axis and row.slices
            for index in row.slices
        )

    def stays(self, request: Request, index: int) -> bool:
        """Return whether a live preview must not change a slice, because it was corrected and is a support."""
        return bool(request.output.segment_ids) and index in self.corrected_slices(request.settings.axis)

    def _replaceable(self, scope: Scope, axis: Axis) -> tuple[dict[str, str] | None, tuple[int, ...]]:
        """Return the segments of the last run that may be replaced, and their slices to keep.

        A segment may be replaced if it was not edited since, or only on slices that are supports now. If one of the
        objects has no such segment, all objects get new segments with all slices.
        """
        run, segmentation = self._state.run, self._state.parameters.outputSegmentation
        if run is None or segmentation is None or run.segmentation is not segmentation:
            return None, ()
        untouched = run.destination.untouched()
        corrected = () if scope == Scope.SEQUENCE else self.corrected_slices(axis)
        if not corrected:
            return untouched, ()
        ids = {
            name: found
            for name, found in run.segment_ids.items()
            if name in untouched or _as_written(run, name, found, corrected)
        }
        return (ids, corrected) if set(self._objects.names()) <= set(ids) else ({}, ())

    def _output(self, replaced: dict[str, str] | None) -> Output:
        """Return the output: segmentation, segments to replace, and the Segment Editor's rules."""
        parameters, editor = self._state.parameters, None
        if parameters.honourEditor:
            scene, kind = slicer.mrmlScene, "vtkMRMLSegmentEditorNode"
            editor = scene.GetSingletonNode("SegmentEditor", kind) or scene.GetFirstNodeByClass(kind)
        return Output(segmentation=parameters.outputSegmentation, segment_ids=replaced, editor=editor)


def _as_written(run: Run, name: str, segment_id: str, corrected: Sequence[int]) -> bool:
    """Return whether a segment equals what a run has written, apart from the corrected slices."""
    written, job = run.masks().get(name), run.job
    if written is None or job is None or run.segmentation is None:
        return False
    try:
        now = segmentation_of(run.segmentation, run.request.target, [segment_id])[0].segments[0].mask
    except ProxyPromptError:  # removed, or moved to another lattice
        return False
    number = axis_number(job.view.axis)
    others = [np.delete(mask, list(corrected), number) for mask in (now, written)]
    return np.array_equal(others[0], others[1])
