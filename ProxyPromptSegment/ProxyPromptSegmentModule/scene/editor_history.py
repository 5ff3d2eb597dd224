"""The memory of states of an open Segment Editor, so that its undo and a run do not cross each other."""

from __future__ import annotations

from typing import Protocol

import slicer


class EditorHistory(Protocol):
    """The part of a vtkSlicerSegmentEditorLogic that remembers states for the Segment Editor's undo."""

    def GetSegmentationNode(self) -> slicer.vtkMRMLSegmentationNode | None:  # noqa: N802, D102
        ...

    def SaveStateForUndo(self) -> bool:  # noqa: N802, D102
        ...


class OpenEditor:
    """The states that an open Segment Editor can go back to.

    The Segment Editor remembers whole segmentations. Without a state of its own before a run, the undo of an earlier
    brush stroke would also remove what the run has made since.
    """

    def __init__(self, editor: slicer.qMRMLSegmentEditorWidget) -> None:
        """Use an editor widget."""
        self._editor = editor

    def GetSegmentationNode(self) -> slicer.vtkMRMLSegmentationNode | None:  # noqa: N802
        """Return the segmentation that is edited."""
        return self._editor.segmentationNode()

    def SaveStateForUndo(self) -> bool:  # noqa: N802
        """Store the present state as one that undo goes back to."""
        self._editor.saveStateForUndo()
        return True


def open_history(segmentation: slicer.vtkMRMLSegmentationNode | None) -> EditorHistory | None:
    """Return the open Segment Editor's memory of a segmentation; None if the segmentation is not edited."""
    module = getattr(slicer.modules, "segmenteditor", None)
    if module is None or segmentation is None or not hasattr(slicer.modules, "SegmentEditorWidget"):
        return None  # no application, or the module was never opened
    editor = slicer.modules.SegmentEditorWidget.editor
    return OpenEditor(editor) if editor.segmentationNode() is segmentation else None
