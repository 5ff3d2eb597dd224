"""Requests to the logic, built from the choices in the panel; or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentLib.errors import ProxyPromptError, UsageError
from ProxyPromptSegmentLib.imaging.geometry import AXES, Axis, axis_number
from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand
from ProxyPromptSegmentModule.panel.chosen_classes import ChosenClasses
from ProxyPromptSegmentModule.panel.chosen_model import ChosenModel
from ProxyPromptSegmentModule.panel.chosen_objects import ChosenObjects
from ProxyPromptSegmentModule.panel.chosen_target import ChosenTarget
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.runs.request import Output, Request, Settings
from ProxyPromptSegmentModule.scene.editor_history import open_history
from ProxyPromptSegmentModule.scene.marks_said import only_on, said_by
from ProxyPromptSegmentModule.scene.new_segments import reusable_segments
from ProxyPromptSegmentModule.scene.painted_masks import painted_masks
from ProxyPromptSegmentModule.scene.segment_state import changed_slices
from ProxyPromptSegmentModule.scene.slice_views import slice_count, slice_on_screen
from ProxyPromptSegmentModule.states import PromptBy, Scope
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.supports.table import SupportTable


class Requests:
    """The builder of requests from the choices."""

    def __init__(
        self,
        state: PanelState,
        objects: ChosenObjects,
        target: ChosenTarget,
        model: ChosenModel,
        classes: ChosenClasses,
    ) -> None:
        """Derive everything from the state and the choices."""
        self._state, self._objects, self._target, self._model = state, objects, target, model
        self._classes = classes

    def settings(self) -> Settings:
        """Return the settings: model, device, threshold, axis, tiles, memory, gaps, helps."""
        parameters, defaults = self._state.parameters, Settings()
        return Settings(
            model=self._model.name or defaults.model,
            device=parameters.device,
            threshold=round(parameters.threshold, 2),
            axis=parameters.axis,
            tiles=parameters.tiles,
            follow=parameters.followMemory and self._model.follows,
            most_read=defaults.most_read if parameters.chooseSupports else None,
            fill_gaps=parameters.fillGaps,
            position=parameters.usePosition,
            register=parameters.registerSupports,
            closer=parameters.lookCloser,
        )

    def reason(self) -> str:
        """Return why Apply cannot be pressed, as a sentence that says what to do; "" if it can."""
        state = self._state
        if reason := self._obstacle():
            return reason
        assert state.table is not None  # otherwise there is a reason
        return (
            (self._support_reason(state.table) if state.prompt_by == PromptBy.SUPPORT else "")
            or self._objects.reason()
            or (_("Select the volume to segment.") if state.parameters.targetVolume is None else "")
            or self._target.reason()
            or self._model.reason()
        )

    def _obstacle(self) -> str:
        """Return why nothing at all can be segmented now; "" if something can."""
        state = self._state
        lacking = _("Some packages are not installed yet.") if state.table is None else ""
        return state.obstacle or state.teaching or state.segmenting or lacking

    def reason_for_studies(self) -> str:
        """Return why several cases cannot be segmented alike; "" if they can."""
        state = self._state
        if reason := self._obstacle():
            return reason
        assert state.table is not None  # otherwise there is a reason
        if state.prompt_by == PromptBy.HAND:
            return _("Marks by hand are of one image; choose supports or classes to segment several.")
        if state.running:
            return _("A segmentation is in progress; wait for it or cancel it.")
        return (
            (self._support_reason(state.table) if state.prompt_by == PromptBy.SUPPORT else "")
            or self._objects.reason()
            or self._model.reason()
        )

    def for_studies(self, target: slicer.vtkMRMLVolumeNode) -> Request:
        """Return the request of each of several cases, of which this is one; only if `reason_for_studies` is "".

        Raises:
            ProxyPromptError: If a support cannot be read.
        """
        table, objects = self._state.table, self._objects.names()
        assert table is not None  # otherwise there is a reason
        return Request(
            target=target,
            cases=tuple(table.cases(objects)) if self._state.prompt_by == PromptBy.SUPPORT else (),
            classes=self._classes.chosen(),
            objects=objects,
            settings=self.settings(),
            output=Output(editor=self._editor(), reuse=True),
        )

    def _support_reason(self, table: SupportTable) -> str:
        """Return why no support can prompt; "" if one can."""
        rows = table.rows()
        if not rows:
            return _("Add a support first: select an annotated case above and press “Add as support”.")
        if not self._state.used_rows():
            problem = next((row.problem for row in rows if row.used and row.problem), "")
            return problem or _("Tick at least one support in the table.")
        return ""

    def request(self) -> Request:
        """Return the request that Apply starts; only valid if `reason` returns "".

        Raises:
            ProxyPromptError: If a support cannot be read.
        """
        self._target.look_again()
        scope, target, table = self._target.scope(), self._state.parameters.targetVolume, self._state.table
        assert target is not None and table is not None  # otherwise there is a reason
        axis, settings, slices = self._target.axis(), self.settings(), self._target.slices()
        kept = () if scope == Scope.SEQUENCE else self.kept_slices(axis)
        by_hand = self._state.prompt_by == PromptBy.HAND
        if kept and scope != Scope.LIVE and not by_hand:
            every = range(slice_count(target, axis)) if slices is None else slices
            slices = tuple(index for index in every if index not in kept) or slices
        said = ByHand() if scope in (Scope.LIVE, Scope.SEQUENCE) else self.said(slices)
        if slices is not None or said or scope in (Scope.SLICES, Scope.BOX, Scope.LIVE):
            settings = replace(settings, axis=axis)  # slice numbers are only valid along this axis
        first = None if scope == Scope.SEQUENCE else slice_on_screen(slicer.mrmlScene, target, axis)
        if first is not None and (first in kept or (slices is not None and first not in slices)):
            first = None
        objects, by_support = self._objects.names(), self._state.prompt_by == PromptBy.SUPPORT
        return Request(
            target=target,
            cases=tuple(table.cases(objects)) if by_support else (),
            classes=self._classes.chosen(),
            objects=objects,
            slices=slices,
            first=first,
            settings=settings,
            output=self._output(),
            by_hand=said,
            browser=self._target.browser() if scope == Scope.SEQUENCE else None,
        )

    def marking(self) -> Request:
        """Return the request of a run that answers marks by hand while they are made; errors as of `request`."""
        axis, names = self._target.axis(), self.names_to_mark()
        request = self.request()
        target = request.target
        return replace(
            request,
            objects=names,
            slices=None,
            first=slice_on_screen(slicer.mrmlScene, target, axis),
            settings=replace(request.settings, axis=axis, follow=False),
            browser=None,
            by_hand=ByHand(),
        )

    def names_to_mark(self) -> tuple[str, ...]:
        """Return the names of the objects that can be marked by hand now."""
        if self._state.prompt_by != PromptBy.HAND:
            return self._objects.names()
        return tuple(dict.fromkeys([*self._objects.by_hand(), self._objects.named]))

    def reason_to_mark(self) -> str:
        """Return why nothing can be marked by hand; "" if it can."""
        state = self._state
        if state.prompt_by != PromptBy.HAND and (reason := self.reason()):
            return reason
        return (
            state.obstacle
            or state.teaching
            or state.segmenting
            or (_("Select the volume to segment.") if state.parameters.targetVolume is None else "")
            or self._model.reason()
        )

    def asks_for(self, name: str) -> bool:
        """Return whether the choices prompt an object."""
        return name.casefold() in {one.casefold() for one in self._objects.names()}

    def everything(self) -> Request:
        """Return the request to find everything on the slice on screen.

        Raises:
            UsageError: If no view shows a slice of the target.
        """
        target, axis = self._state.parameters.targetVolume, self._target.axis()
        assert target is not None  # otherwise there is a reason
        index = slice_on_screen(slicer.mrmlScene, target, axis)
        if index is None:
            raise UsageError(_("No slice view shows a slice of the target; scroll one to it."))
        settings = replace(self.settings(), axis=axis, follow=False)
        return Request(target=target, slices=(index,), first=index, settings=settings)

    def said(self, slices: Sequence[int] | None = None) -> ByHand:
        """Return what the marks on the target say of the chosen objects.

        Args:
            slices: The slices to segment; marks on others are left out. None means all.

        Raises:
            ProxyPromptError: If a painted mask cannot be read.
        """
        target, axis = self._state.parameters.targetVolume, self._target.axis()
        if target is None:
            return ByHand()
        painted = painted_masks(slicer.mrmlScene, target) if self._state.prompt_by == PromptBy.HAND else []
        said = said_by(slicer.mrmlScene, target, axis, painted)
        if self._state.prompt_by == PromptBy.HAND:
            return said
        return only_on(said, axis, slices, self._objects.names())

    def changed_slices(self, axis: Axis) -> dict[str, tuple[int, ...]]:
        """Return the slices of each object's earlier result that were changed by hand; runs leave them as they are."""
        parameters, names = self._state.parameters, self._objects.names()
        node, target = parameters.outputSegmentation, parameters.targetVolume
        if node is None or target is None:
            return {}
        try:
            found = reusable_segments(node, target, names, axis, self._state.states)
            return {
                name: changed_slices(node, segment_id, target, self._state.states) for name, segment_id in found.items()
            }
        except ProxyPromptError:  # another grid, which the run will report
            return {}

    def kept_slices(self, axis: Axis) -> tuple[int, ...]:
        """Return the slices on which no object would be written, because all were changed by hand."""
        if self._state.replace_changed:
            return ()
        changed = self.changed_slices(axis)
        if len(changed) < len(self._objects.names()):
            return ()
        every = [set(slices) for slices in changed.values()]
        return tuple(sorted(set.intersection(*every))) if every else ()

    def stays(self, request: Request, index: int) -> bool:
        """Return whether a live preview must not change a slice, because it was changed by hand."""
        axis = request.settings.axis
        return axis in AXES and index in self.kept_slices(AXES[axis_number(axis)])

    def _output(self) -> Output:
        """Return the output: segmentation, whether earlier results are written again, the Segment Editor's rules."""
        parameters = self._state.parameters
        return Output(
            segmentation=parameters.outputSegmentation,
            editor=self._editor(),
            reuse=True,
            replace_changed=self._state.replace_changed,
            history=open_history(parameters.outputSegmentation),
        )

    def _editor(self) -> slicer.vtkMRMLSegmentEditorNode | None:
        """Return the Segment Editor's node if its masking is to be respected, or None."""
        if not self._state.parameters.honourEditor:
            return None
        scene, kind = slicer.mrmlScene, "vtkMRMLSegmentEditorNode"
        node: slicer.vtkMRMLSegmentEditorNode | None = scene.GetSingletonNode("SegmentEditor", kind)
        return node or scene.GetFirstNodeByClass(kind)
