"""Where an annotated case of the scene becomes a support."""

from __future__ import annotations

from typing import Any

import slicer

from ProxyPromptSegmentModule.panel.tick_list import Line, TickList
from ProxyPromptSegmentModule.parameters import ALL_ANNOTATED, AUTOMATIC, THESE, names_of, text_of
from ProxyPromptSegmentModule.runs.destinations import MADE_FOR
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say

_HOW = (AUTOMATIC, ALL_ANNOTATED, THESE)  # in the order of the combo box


class SupportSection:
    """The two selectors, the options and the button."""

    def __init__(self, panel: Any) -> None:
        """Connects the widgets."""
        self.panel, self.ui = panel, panel.ui
        ui = self.ui
        ui.supportSegmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.on_segmentation)
        ui.supportVolumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.on_volume)
        ui.supportSlicesCombo.connect("currentIndexChanged(int)", self.on_how)
        ui.supportSlicesEdit.connect("textChanged(QString)", self.on_slices)
        self._segments = TickList(ui.supportSegmentsList, self.on_segments)
        ui.addSupportButton.connect("clicked()", self.on_add)

    def choose_defaults(self) -> None:
        """The first annotation of the scene that is neither a result of ours nor a support already, with its image."""
        parameters = self.panel.parameters
        if parameters.supportSegmentation is None and parameters.supportVolume is None:
            taken = {row.segmentation_id for row in self.panel.table.rows()} if self.panel.table is not None else set()
            scene = slicer.mrmlScene
            for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
                node = scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode")
                ours = node.GetAttribute(MADE_FOR) or node is parameters.outputSegmentation
                if not ours and node.GetID() not in taken and segments_of(node) and image_of(node) is not None:
                    parameters.supportSegmentation = node
                    break
        if parameters.supportVolume is None and parameters.supportSegmentation is not None:
            parameters.supportVolume = image_of(parameters.supportSegmentation)

    def refresh(self) -> None:
        """Shows the choices."""
        parameters, ui = self.panel.parameters, self.ui
        ui.supportSegmentationSelector.setCurrentNode(parameters.supportSegmentation)
        ui.supportVolumeSelector.setCurrentNode(parameters.supportVolume)
        how = parameters.supportSlicesHow
        ui.supportSlicesCombo.currentIndex = _HOW.index(how) if how in _HOW else 0
        ui.supportSlicesEdit.setVisible(how == THESE)
        ui.supportSlicesTextCaption.setVisible(how == THESE)
        if ui.supportSlicesEdit.text != parameters.supportSlices:
            ui.supportSlicesEdit.text = parameters.supportSlices
        self._show_segments()
        allow(ui.addSupportButton, self.reason(), _("Adds this annotated case to the table."))

    def reason(self) -> str:
        """Why the case cannot be added; "" if it can."""
        parameters = self.panel.parameters
        if self.panel.table is None:
            return self.panel.first_run.reason or _("Some packages are not installed yet.")
        if parameters.supportSegmentation is None:
            return _("Select a segmentation that somebody has drawn.")
        if parameters.supportVolume is None:
            return _("Select the image on which the segmentation was drawn.")
        if not segments_of(parameters.supportSegmentation):
            return _("The segmentation is empty; draw the object in the Segment Editor, on one slice or more.")
        if names_of(parameters.supportSegments) == ():
            return _("Tick at least one segment.")
        if parameters.supportSlicesHow == THESE and not parameters.supportSlices.strip():
            return _("Say which slices, for example 12 or 5:20.")
        return ""

    def _show_segments(self) -> None:
        wanted = names_of(self.panel.parameters.supportSegments)
        self._segments.show(
            [
                Line(identifier, name, color, wanted is None or identifier in wanted)
                for identifier, name, color in segments_of(self.panel.parameters.supportSegmentation)
            ]
        )

    # --- what the user does -----------------------------------------------------------------------------------

    def on_segmentation(self, node: Any) -> None:
        """Another annotation: its image comes with it."""
        if not self.panel.listening:
            return
        parameters = self.panel.parameters
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.supportSegmentation = node
            parameters.supportSegments = ""
            image = image_of(node)
            if image is not None:
                parameters.supportVolume = image

    def on_volume(self, node: Any) -> None:
        """Another image."""
        if self.panel.listening:
            self.panel.parameters.supportVolume = node

    def on_how(self, index: int) -> None:
        """Automatic, all, or these slices."""
        if self.panel.listening:
            self.panel.parameters.supportSlicesHow = _HOW[index]

    def on_slices(self, text: str) -> None:
        """Which slices."""
        if self.panel.listening:
            self.panel.parameters.supportSlices = text

    def on_segments(self) -> None:
        """Which segments; all of them means those that come later as well."""
        if self.panel.listening:
            ticked = self._segments.ticked()
            count = len(segments_of(self.panel.parameters.supportSegmentation))
            self.panel.parameters.supportSegments = "" if len(ticked) == count else text_of(ticked)

    def on_add(self) -> None:
        """Adds the case; what is wrong with it is said below."""
        parameters = self.panel.parameters
        added = False
        say(self.ui.supportMessageLabel, "")
        with said_in(self.ui.supportMessageLabel):
            row = self.panel.table.add_nodes(
                parameters.supportVolume,
                parameters.supportSegmentation,
                segments=names_of(parameters.supportSegments),
                slices=self._slices(),
                title=self.ui.supportTitleEdit.text.strip(),
            )
            added = True
            self.panel.supports_table.selected = row.key
            self.ui.supportTitleEdit.text = ""
        if added:
            self.panel.target.leave_support_alone()
            self.panel.refresh()
            self.panel.apply.update_at_once()

    def _slices(self) -> Any:
        """What `SupportTable.add_nodes` calls slices."""
        parameters = self.panel.parameters
        if parameters.supportSlicesHow == ALL_ANNOTATED:
            return "all"
        if parameters.supportSlicesHow == AUTOMATIC:
            return None
        from ProxyPromptSegmentLib.imaging.slice_choice import SliceChoice, slice_numbers

        choice = SliceChoice.parse(parameters.supportSlices, _("The field for slices"))
        dimensions = parameters.supportVolume.GetImageData().GetDimensions()
        return slice_numbers(choice, max(dimensions))


def image_of(segmentation: Any) -> Any:
    """The volume on which a segmentation was drawn, as far as it knows; else None."""
    if segmentation is None:
        return None
    return segmentation.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


def segments_of(segmentation: Any) -> list[tuple[str, str, tuple[float, float, float]]]:
    """Identifier, name and colour of each segment."""
    if segmentation is None:
        return []
    found = segmentation.GetSegmentation()
    segments = [(found.GetNthSegmentID(n), found.GetNthSegment(n)) for n in range(found.GetNumberOfSegments())]
    return [(identifier, one.GetName(), tuple(one.GetColor())) for identifier, one in segments]
