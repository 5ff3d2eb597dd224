"""Where the model was not sure, as colours over the image: a volume in the foreground of the slice views."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ProxyPromptSegmentModule.scene.nodes import add_node, in_scene, nodes_of
from ProxyPromptSegmentModule.translation import _

OF = "ProxyPrompt.overlayOf"
"""Reference role of an overlay to its volume."""

OPACITY = 0.6
_COLORS = "vtkMRMLColorTableNodeWarm1"
_LEAST, _MOST = 26, 255  # below a tenth nothing is drawn

Values = npt.NDArray[np.uint8]


class Overlay:
    """The overlay of one volume; nothing of it is saved, and it never lies on another volume."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._node: slicer.vtkMRMLScalarVolumeNode | None = None
        self._values: Values | None = None  # the image shares its memory: copying 300 slices would be felt
        self._before: dict[str, tuple[str, float]] = {}

    @property
    def is_shown(self) -> bool:
        """Whether there is an overlay."""
        return in_scene(self._node)

    def show(self, volume: slicer.vtkMRMLVolumeNode, values: Values) -> None:
        """Show how unsure the model was over a volume.

        Args:
            volume: The volume.
            values: 0 where it was sure, 255 where it was not at all; uint8 ``(K, J, I)``.
        """
        self.hide()
        scene = slicer.mrmlScene
        node = add_node(scene, slicer.vtkMRMLScalarVolumeNode, _("{name}: not sure").format(name=volume.GetName()))
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.SetNodeReferenceID(OF, volume.GetID())
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        node.SetIJKToRASMatrix(matrix)
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        display = add_node(scene, slicer.vtkMRMLScalarVolumeDisplayNode, "")
        display.SetSaveWithScene(False)
        display.SetAutoWindowLevel(False)  # before there is an image, whose voxels would all be counted
        display.SetWindowLevelMinMax(0, _MOST)
        display.SetAutoThreshold(False)
        display.SetThreshold(_LEAST, _MOST)
        display.SetApplyThreshold(True)
        display.SetAndObserveColorNodeID(_COLORS)
        node.SetAndObserveDisplayNodeID(display.GetID())
        self._node, self._values = node, np.ascontiguousarray(values)
        node.SetAndObserveImageData(_image_of(self._values))
        for view in nodes_of(scene, slicer.vtkMRMLSliceCompositeNode):
            if view.GetBackgroundVolumeID() == volume.GetID():
                self._before[view.GetID()] = (view.GetForegroundVolumeID() or "", view.GetForegroundOpacity())
                view.SetForegroundVolumeID(node.GetID())
                view.SetForegroundOpacity(OPACITY)

    def hide(self) -> None:
        """Remove the overlay; the views show again what they showed in the foreground before."""
        node, self._node = self._node, None
        if node is not None and in_scene(node):
            for view in nodes_of(slicer.mrmlScene, slicer.vtkMRMLSliceCompositeNode):
                if view.GetForegroundVolumeID() == node.GetID():
                    earlier, opacity = self._before.get(view.GetID(), ("", 0.0))
                    found = earlier if earlier and slicer.mrmlScene.GetNodeByID(earlier) is not None else None
                    view.SetForegroundVolumeID(found)
                    view.SetForegroundOpacity(opacity)
            display = node.GetDisplayNode()
            slicer.mrmlScene.RemoveNode(node)
            if display is not None and in_scene(display):
                slicer.mrmlScene.RemoveNode(display)
        self._before, self._values = {}, None


def take_off(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode) -> None:
    """Take the overlays of other volumes out of the views."""
    for view in nodes_of(scene, slicer.vtkMRMLSliceCompositeNode):
        shown: slicer.vtkMRMLNode | None = scene.GetNodeByID(view.GetForegroundVolumeID() or "")
        if shown is not None and shown.GetNodeReferenceID(OF) not in (None, "", volume.GetID()):
            view.SetForegroundVolumeID(None)
            view.SetForegroundOpacity(0.0)


def take_off_strays(scene: slicer.vtkMRMLScene) -> None:
    """Take overlays out of views that show another image than theirs, in each view by itself."""
    for view in nodes_of(scene, slicer.vtkMRMLSliceCompositeNode):
        shown: slicer.vtkMRMLNode | None = scene.GetNodeByID(view.GetForegroundVolumeID() or "")
        of = shown.GetNodeReferenceID(OF) if shown is not None else None
        if of and of != view.GetBackgroundVolumeID():
            view.SetForegroundVolumeID(None)
            view.SetForegroundOpacity(0.0)


def _image_of(values: Values) -> vtk.vtkImageData:
    """Return an image that shares the memory of an array ``(K, J, I)``."""
    image = vtk.vtkImageData()
    image.SetDimensions(*values.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(values.reshape(-1), deep=False))
    return image
