"""A hint in an empty scene: what the module needs, and the sample data to try it with."""

from __future__ import annotations

import slicer

from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import TopWidgets
from ProxyPromptSegmentModule.scene import sample_data
from ProxyPromptSegmentModule.scene.nodes import nodes_of
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import said_in, say


class HintSection(Section):
    """The hint; hidden as soon as there is an image."""

    def __init__(self, widgets: TopWidgets, state: PanelState) -> None:
        """Connect the widgets."""
        self._ui, self._state = widgets, state
        self._ui.sampleButton.connect("clicked()", self.on_sample)

    def refresh(self) -> None:
        """Show the hint in a scene without images."""
        volumes = nodes_of(slicer.mrmlScene, slicer.vtkMRMLVolumeNode)
        empty = all(node.GetHideFromEditors() for node in volumes)
        self._ui.hintFrame.setVisible(empty)
        if empty:
            said = _("Load an annotated case (image and segmentation) and an image to segment, or try the sample data.")
            say(self._ui.hintLabel, said)

    def on_sample(self) -> None:
        """Load the annotated sample case and the target."""
        with said_in(self._ui.hintLabel):
            sample_data.load_support()
            sample_data.load_target()
        self._state.changed.emit()
