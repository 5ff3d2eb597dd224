"""The effects of Slicer's Segment Editor on a result, without leaving the panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

if TYPE_CHECKING:
    import slicer as typed

TAG = "ProxyPromptSegment"
"""Singleton tag of our segment editor node: the settings of the Segment Editor itself stay as they are."""


class HandEditor:
    """A Segment Editor that is never shown; its effects work in the slice views while one of them is active.

    Only the chosen segment changes, also where another one lies. The states that strokes can be taken back to are
    forgotten as soon as anything else writes into the segmentation, because they hold all of its segments.

    Attributes:
        effect: Name of the active effect; "" for none.
    """

    def __init__(self) -> None:
        """Create nothing yet: the widget is made with the first stroke."""
        self._editor: typed.qMRMLSegmentEditorWidget | None = None
        self.effect = ""

    def start(
        self,
        effect: str,
        segmentation: slicer.vtkMRMLSegmentationNode,
        segment_id: str,
        volume: slicer.vtkMRMLVolumeNode,
    ) -> None:
        """Activate an effect on a segment.

        Args:
            effect: ``Paint`` or ``Erase``.
            segmentation: The segmentation.
            segment_id: The segment.
            volume: The image that it was segmented on.
        """
        editor = self._editor = self._editor or _make()
        _use_own_node(editor)
        editor.setSegmentationNode(segmentation)
        editor.setSourceVolumeNode(volume)
        editor.setCurrentSegmentID(segment_id)
        editor.setupViewObservations()
        editor.setActiveEffectByName(effect)
        self.effect = effect

    def stop(self) -> None:
        """End the active effect; strokes can still be taken back."""
        if self._editor is not None and self.effect:
            self._editor.setActiveEffectByName("")
            self._editor.removeViewObservations()
        self.effect = ""

    def undo(self) -> None:
        """Take the last stroke back."""
        if self._editor is not None:
            self._editor.undo()

    def edits(self, segmentation: slicer.vtkMRMLSegmentationNode | None) -> bool:
        """Return whether strokes in a segmentation can be taken back."""
        return self._editor is not None and segmentation is not None and self._editor.segmentationNode() is segmentation

    def forget(self) -> None:
        """End the active effect and forget all strokes."""
        self.stop()
        if self._editor is not None:
            self._editor.setSegmentationNode(None)

    def close(self) -> None:
        """Delete the editor."""
        self.forget()
        if self._editor is not None:
            self._editor.deleteLater()
            self._editor = None


def _make() -> typed.qMRMLSegmentEditorWidget:
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMaximumNumberOfUndoStates(10)
    editor.setMRMLScene(slicer.mrmlScene)
    return editor


def _use_own_node(editor: typed.qMRMLSegmentEditorWidget) -> None:
    """Use our segment editor node; it is made again after the scene was closed."""
    scene = slicer.mrmlScene
    node: slicer.vtkMRMLSegmentEditorNode | None = scene.GetSingletonNode(TAG, "vtkMRMLSegmentEditorNode")
    if node is None:
        made = slicer.vtkMRMLSegmentEditorNode()
        made.SetSingletonTag(TAG)
        made.SetHideFromEditors(True)
        made.SetSaveWithScene(False)
        node = scene.AddNode(made)
    node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    editor.setMRMLSegmentEditorNode(node)
