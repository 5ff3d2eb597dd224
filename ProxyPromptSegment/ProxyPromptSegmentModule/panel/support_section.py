"""The support section: adds an annotated case of the scene as a support."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import slicer
import slicer.util

from ProxyPromptSegmentLib.imaging.slice_choice import SliceChoice, slice_numbers
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.selectors import select_nothing_once_removed
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.tick_list import Line, TickList
from ProxyPromptSegmentModule.panel.widgets import SupportWidgets
from ProxyPromptSegmentModule.parameters import names_of, text_of
from ProxyPromptSegmentModule.scene.nodes import check_volume, nodes_of
from ProxyPromptSegmentModule.scene.owners import is_ours
from ProxyPromptSegmentModule.scene.pairing import doubts_about, image_for
from ProxyPromptSegmentModule.scene.pieces import Pieces, at_once
from ProxyPromptSegmentModule.states import PromptBy, SlicesHow
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.supports.saved import SupportRow

_HOW = tuple(SlicesHow)
_AT_ONCE = 16 << 20
"""Bytes of image and masks up to which a case is read at once; larger ones would make the window wait."""


class InPieces(Protocol):
    """The part of `SegmentationLogic` that does work of the main thread a little at a time."""

    def in_pieces(self, work: Pieces[None]) -> None:
        """Do work; it is closed when the scene or the module is."""


class SupportSection(Section):
    """The selectors of annotation and image, the options, and the button."""

    def __init__(self, widgets: SupportWidgets, state: PanelState, logic: InPieces) -> None:
        """Connect the widgets."""
        self._ui, self._state = widgets, state
        self._asked: tuple[str, ...] = ()
        self._logic, self._adding, self._waiting = logic, False, False
        ui = widgets
        ui.supportSegmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.on_segmentation)
        ui.supportVolumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.on_volume)
        select_nothing_once_removed(ui.supportSegmentationSelector, ui.supportVolumeSelector)
        ui.supportSlicesCombo.connect("currentIndexChanged(int)", self.on_how)
        ui.supportSlicesEdit.connect("textChanged(QString)", self.on_slices)
        self._segments = TickList(ui.supportSegmentsList, self.on_segments)
        ui.addSupportButton.connect("clicked()", self.on_add)

    def choose_defaults(self) -> None:
        """Select the first annotation that is neither one of our results nor already a support, with its image."""
        parameters = self._state.parameters
        if parameters.supportSegmentation is None and parameters.supportVolume is None:
            taken = {row.segmentation_id for row in self._state.support_rows()}
            for node in nodes_of(slicer.mrmlScene, slicer.vtkMRMLSegmentationNode):
                if (
                    not is_ours(node)
                    and node.GetID() not in taken
                    and segments_of(node)
                    and image_for(node) is not None
                ):
                    parameters.supportSegmentation = node
                    break
        if parameters.supportVolume is None and parameters.supportSegmentation is not None:
            parameters.supportVolume = image_for(parameters.supportSegmentation)

    def refresh(self) -> None:
        """Show the choices."""
        parameters, ui = self._state.parameters, self._ui
        ui.supportButton.setVisible(self._state.prompt_by == PromptBy.SUPPORT)
        if self._waiting and not self._adding:  # the scene was closed meanwhile
            self._waiting = False
            say(ui.supportMessageLabel, "")
        ui.supportSegmentationSelector.setCurrentNode(parameters.supportSegmentation)
        ui.supportVolumeSelector.setCurrentNode(parameters.supportVolume)
        how = parameters.supportSlicesHow
        ui.supportSlicesCombo.currentIndex = _HOW.index(SlicesHow(how)) if how in _HOW else 0
        ui.supportSlicesEdit.setVisible(how == SlicesHow.THESE)
        ui.supportSlicesTextCaption.setVisible(how == SlicesHow.THESE)
        if ui.supportSlicesEdit.text != parameters.supportSlices:
            ui.supportSlicesEdit.text = parameters.supportSlices
        self._show_segments()
        allow(ui.addSupportButton, self.reason(), _("Adds this annotated case to the table."))

    def reason(self) -> str:
        """Return why the case cannot be added; "" if it can."""
        parameters = self._state.parameters
        if self._state.table is None:
            return self._state.obstacle or _("Some packages are not installed yet.")
        if self._adding:
            return _("A support is being read.")
        if parameters.supportSegmentation is None:
            return _("Select the segmentation of an annotated case.")
        if parameters.supportVolume is None:
            return _("Select the image on which the segmentation was drawn.")
        if not segments_of(parameters.supportSegmentation):
            return _("The segmentation is empty; draw the object in the Segment Editor, on one slice or more.")
        if names_of(parameters.supportSegments) == ():
            return _("Tick at least one segment.")
        if parameters.supportSlicesHow == SlicesHow.THESE and not parameters.supportSlices.strip():
            return _("Enter the slices, for example 12 or 5:20.")
        return ""

    def _show_segments(self) -> None:
        wanted = names_of(self._state.parameters.supportSegments)
        self._segments.show(
            [
                Line(key=identifier, text=name, color_rgb=color, ticked=wanted is None or identifier in wanted)
                for identifier, name, color in segments_of(self._state.parameters.supportSegmentation)
            ]
        )

    # --- what the user does -----------------------------------------------------------------------------------

    def on_segmentation(self, node: slicer.vtkMRMLSegmentationNode | None) -> None:
        """Select another annotation, and its image; one of another case is not kept."""
        if not self._state.listening:
            return
        parameters = self._state.parameters
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.supportSegmentation = node
            parameters.supportSegments = ""
            image, chosen = image_for(node), parameters.supportVolume
            if node is not None and (image is not None or chosen is None or doubts_about(chosen, node)):
                parameters.supportVolume = image

    def on_volume(self, node: slicer.vtkMRMLVolumeNode | None) -> None:
        """Select another image."""
        if self._state.listening:
            self._state.parameters.supportVolume = node

    def on_how(self, index: int) -> None:
        """Store how the slices are chosen."""
        if self._state.listening:
            self._state.parameters.supportSlicesHow = _HOW[index].value

    def on_slices(self, text: str) -> None:
        """Store the text of the slices."""
        if self._state.listening:
            self._state.parameters.supportSlices = text

    def on_segments(self) -> None:
        """Store the segments; if all are ticked, segments added later are included."""
        if self._state.listening:
            ticked = self._segments.ticked()
            count = len(segments_of(self._state.parameters.supportSegmentation))
            self._state.parameters.supportSegments = "" if len(ticked) == count else text_of(ticked)

    def on_add(self) -> None:
        """Add the case as a support; errors are shown below the button."""
        parameters, table = self._state.parameters, self._state.table
        if table is None or self._adding:
            return
        if self._ask_about_pair():
            return
        say(self._ui.supportMessageLabel, "")
        with said_in(self._ui.supportMessageLabel):
            image, annotation = parameters.supportVolume, parameters.supportSegmentation
            segments = names_of(parameters.supportSegments)
            title = self._ui.supportTitleEdit.text.strip()
            work = self._add(table.adding(image, annotation, segments, self._slices(), title))
            if image is None or _bytes_of(image, segments_of(annotation)) <= _AT_ONCE:
                at_once(work)
                return
            say(self._ui.supportMessageLabel, _("Reading ‘{image}’…").format(image=image.GetName()))
            self._adding = self._waiting = True
            if next(work, self) is None:  # not ended at once; only what has begun can tidy up when it is closed
                self._logic.in_pieces(work)
                self._state.changed.emit()

    def _add(self, adding: Pieces[SupportRow]) -> Pieces[None]:
        """Add the case a little at a time; errors are shown below the button."""
        added = False
        try:
            with said_in(self._ui.supportMessageLabel):
                row = yield from adding
                added = True
                self._state.selected = row.key
                self._ui.supportTitleEdit.text = ""
                say(self._ui.supportMessageLabel, "")
        finally:  # also where the scene was closed meanwhile
            waited, self._adding = self._adding, False
        self._waiting = False
        if added or waited:
            self._state.changed.emit()
        if added:
            self._state.support_added.emit()
            self._state.choice_changed.emit()

    def _ask_about_pair(self) -> bool:
        """Say what speaks against the pair; return whether the button has to be pressed again."""
        image, annotation = self._state.parameters.supportVolume, self._state.parameters.supportSegmentation
        if image is None or annotation is None:
            return False
        doubts = doubts_about(image, annotation)
        pair = (image.GetID(), annotation.GetID(), *doubts)
        if not doubts or pair == self._asked:
            self._asked = ()
            return False
        self._asked = pair
        question = _(
            "Do ‘{image}’ and ‘{annotation}’ belong together? Choose the right image, or press again to add them."
        )
        said = question.format(image=image.GetName(), annotation=annotation.GetName())
        say(self._ui.supportMessageLabel, "\n".join([*doubts, said]))
        return True

    def _slices(self) -> Sequence[int] | Literal["all"] | None:
        """Return the ``slices`` argument of `SupportTable.add_nodes`."""
        parameters = self._state.parameters
        if parameters.supportSlicesHow == SlicesHow.ALL_ANNOTATED:
            return "all"
        if parameters.supportSlicesHow == SlicesHow.AUTOMATIC:
            return None

        choice = SliceChoice.parse(parameters.supportSlices, _("The field for slices"))
        return slice_numbers(choice, max(check_volume(parameters.supportVolume).GetDimensions()))


def segments_of(
    segmentation: slicer.vtkMRMLSegmentationNode | None,
) -> list[tuple[str, str, tuple[float, float, float]]]:
    """Return identifier, name and colour of each segment."""
    if segmentation is None:
        return []
    found = segmentation.GetSegmentation()
    segments = [(found.GetNthSegmentID(n), found.GetNthSegment(n)) for n in range(found.GetNumberOfSegments())]
    return [(identifier, one.GetName(), one.GetColor()) for identifier, one in segments]


def _bytes_of(volume: slicer.vtkMRMLVolumeNode, segments: Sequence[object]) -> int:
    """Return the bytes of an image in float32 and of the masks of its segments."""
    i, j, k = check_volume(volume).GetDimensions()
    return i * j * k * (4 + len(segments))
