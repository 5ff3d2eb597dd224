"""The slice views: what they show of a volume, where they jump, and where somebody clicks. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import slicer
import vtk

from ProxyPromptSegmentLib.imaging.geometry import AXES, Axis, VolumeGeometry, auto_axis, axis_number
from ProxyPromptSegmentLib.support.matching import is_sliceable, parallel_axis
from ProxyPromptSegmentModule.scene.nodes import geometry_of, nodes_of, slice_ras

Vector = npt.NDArray[np.float64]
"""A place or a direction, RAS in mm, ``(3,)``."""


class Case(Protocol):
    """An image and its annotation, such as a `SupportRow`; None where it has no such node."""

    @property
    def volume_id(self) -> str | None:
        """Node of the image."""

    @property
    def segmentation_id(self) -> str | None:
        """Node of the annotation."""


_PARALLEL = 0.9
"""Cosine between the normals of a view and of a volume's slices from which on the view shows these slices."""


def slice_count(volume: slicer.vtkMRMLVolumeNode | None, axis: Axis) -> int:
    """Number of slices along an axis; 0 without image data."""
    image = volume.GetImageData() if volume is not None else None
    return int(image.GetDimensions()[2 - AXES.index(axis)]) if image is not None else 0


def stack_line(volume: slicer.vtkMRMLVolumeNode, axis: Axis) -> tuple[Vector, Vector]:
    """Middle of slice 0 and the step to the next one, RAS in mm.

    Raises:
        InputError: If the volume has no regular grid.
    """
    count = slice_count(volume, axis)
    first = np.asarray(slice_ras(volume, axis, 0), float)
    if count > 1:
        return first, (np.asarray(slice_ras(volume, axis, count - 1), float) - first) / (count - 1)
    geometry = geometry_of(volume)
    number = 2 - AXES.index(axis)
    return first, np.array([-1.0, -1.0, 1.0]) * geometry.direction[:, number] * geometry.spacing_mm[number]


def slice_nodes(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSliceNode]:
    """Slice views: those of the layout on screen, or all where there is no layout."""
    nodes = nodes_of(scene, slicer.vtkMRMLSliceNode)
    return [node for node in nodes if node.IsMappedInLayout()] or nodes


def parallel_views(
    scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, axis: Axis
) -> list[slicer.vtkMRMLSliceNode]:
    """Views that show the slices along an axis, the most nearly parallel first."""
    step = stack_line(volume, axis)[1]
    normal = step / max(float(np.linalg.norm(step)), 1e-12)
    found: list[tuple[float, int, slicer.vtkMRMLSliceNode]] = []
    for node in slice_nodes(scene):
        alike = abs(float(_column(node, 2) @ normal))
        if alike >= _PARALLEL:
            found.append((-alike, len(found), node))
    return [node for _alike, _number, node in sorted(found, key=lambda one: one[:2])]


def slice_on_screen(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, axis: Axis) -> int | None:
    """The slice along an axis that a view shows, counted from 0; None where no view shows one."""
    if slice_count(volume, axis) == 0:
        return None
    first, step = stack_line(volume, axis)
    for node in parallel_views(scene, volume, axis):
        normal = _column(node, 2)
        along = float(step @ normal)
        index = round(float((_column(node, 3) - first) @ normal) / along) if along else -1
        if 0 <= index < slice_count(volume, axis):
            return index
    return None


def show_slice(
    scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, axis: Axis, index: int, center: bool = False
) -> None:
    """Turns views to a slice: those parallel to it, or with ``center`` all of them to its middle."""
    ras = slice_ras(volume, axis, index)
    if center:
        jump_to(scene, ras)
        return
    for node in parallel_views(scene, volume, axis):
        node.JumpSliceByOffsetting(*ras)


def jump_to(scene: slicer.vtkMRMLScene, ras: tuple[float, float, float]) -> None:
    """All views go through a place of the world; none of them is moved sideways."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *ras, slicer.vtkMRMLSliceNode.OffsetJumpSlice)


def slices_in_box(volume: slicer.vtkMRMLVolumeNode, axis: Axis, box: slicer.vtkMRMLMarkupsROINode) -> range:
    """Slices along an axis that a box (``vtkMRMLMarkupsROINode``) meets; empty where it lies beside the volume."""
    bounds = [0.0] * 6
    box.GetRASBounds(bounds)
    if bounds[0] > bounds[1]:  # nothing is drawn yet
        return range(0)
    # Not the corners of its bounds, which are larger where it is turned.
    to_world, half = box.GetObjectToWorldMatrix(), [size / 2 for size in box.GetSize()]
    corners = np.array(
        [
            to_world.MultiplyPoint([x * half[0], y * half[1], z * half[2], 1.0])[:3]
            for x in (-1, 1)
            for y in (-1, 1)
            for z in (-1, 1)
        ]
    )
    first, step = stack_line(volume, axis)
    along = (corners - first) @ step / float(step @ step)
    count = slice_count(volume, axis)
    return range(max(0, int(np.ceil(along.min() - 0.5))), min(count - 1, int(np.floor(along.max() + 0.5))) + 1)


def fit_box(volume: slicer.vtkMRMLVolumeNode, box: slicer.vtkMRMLMarkupsROINode) -> None:
    """Lays a box that was just made around a volume, along its slices; one that has a size stays as it is."""
    bounds = [0.0] * 6
    box.GetRASBounds(bounds)
    if bounds[0] < bounds[1]:
        return
    middle, directions, sizes = np.zeros(3), np.eye(3), []
    for number, axis in enumerate(reversed(AXES)):
        first, step = stack_line(volume, axis)
        length, count = float(np.linalg.norm(step)), slice_count(volume, axis)
        middle = first + step * (count - 1) / 2  # the middle of the middle slice, along each axis the same place
        directions[:, number] = step / max(length, 1e-12)
        sizes.append(length * count)
    if np.linalg.det(directions) < 0:  # a box is turned, never mirrored
        directions[:, 2] *= -1
    matrix = vtk.vtkMatrix4x4()
    for row in range(3):
        for column in range(3):
            matrix.SetElement(row, column, directions[row, column])
    box.SetAndObserveObjectToNodeMatrix(matrix)
    box.SetCenterWorld(*middle)
    box.SetSizeWorld(*sizes)


def slicing_axis(
    target: slicer.vtkMRMLVolumeNode,
    wanted: str,
    support_geometry: VolumeGeometry | None = None,
    support_axis: Axis = "k",
) -> Axis:
    """The axis along which a target is cut, as the engine chooses it (`matching.choose_axes`), from geometry alone.

    Args:
        target: Volume node.
        wanted: ``auto`` or an axis, which is then the answer.
        support_geometry: Lattice of the first support, if there is one.
        support_axis: Axis along which it was annotated.
    """
    if wanted != "auto":
        return AXES[axis_number(wanted)]

    geometry = geometry_of(target)
    if support_geometry is not None:
        alike = parallel_axis(geometry, support_geometry, support_axis)
        if is_sliceable(geometry, alike):
            return alike
    return auto_axis(geometry)


def show_volume(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode) -> None:
    """Puts a volume into all slice views, unless one shows it already, and fits them to it."""
    views = nodes_of(scene, slicer.vtkMRMLSliceCompositeNode)
    if any(volume.GetID() in (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID()) for view in views):
        return
    for view in views:
        view.SetBackgroundVolumeID(volume.GetID())
    slicer.app.applicationLogic().FitSliceToAll(False, False)  # whatever may be linked; nobody's views are turned


def show_case(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, rows: Sequence[Case]) -> None:
    """Shows a volume without the contours of supports that were drawn on another one.

    In the world's coordinates two patients lie across each other, and the contour of the one on the image of the other
    would be taken for a result. What is hidden here is shown again with its own image.

    Args:
        scene: The scene.
        volume: Volume node.
        rows: The supports (`SupportRow`); segmentations that are no support stay as they are.
    """
    show_volume(scene, volume)
    own = {row.segmentation_id for row in rows if row.volume_id == volume.GetID()}
    for found in {row.segmentation_id for row in rows if row.segmentation_id}:
        node: slicer.vtkMRMLSegmentationNode | None = scene.GetNodeByID(found)
        display = node.GetDisplayNode() if node is not None else None
        if display is not None and bool(display.GetVisibility()) != (found in own):
            display.SetVisibility(found in own)


def crosshair_node(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLCrosshairNode | None:
    """The node that knows where the mouse is; None where there is none."""
    node: slicer.vtkMRMLCrosshairNode | None = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    return node


def crosshair_ras(scene: slicer.vtkMRMLScene) -> tuple[float, float, float] | None:
    """Where the crosshair is; None where there is none."""
    node = crosshair_node(scene)
    return node.GetCrosshairRAS() if node is not None else None


def mouse_ras(scene: slicer.vtkMRMLScene) -> tuple[float, float, float] | None:
    """Where in the world the mouse points in a slice view; None outside of the views."""
    node, ras = crosshair_node(scene), [0.0, 0.0, 0.0]
    return (ras[0], ras[1], ras[2]) if node is not None and node.GetCursorPositionRAS(ras) else None


class Clicks:
    """Tells of clicks into slice views, as places of the world, until `stop`."""

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        interactors: Sequence[vtk.vtkRenderWindowInteractor],
        clicked: Callable[[tuple[float, float, float]], None],
    ) -> None:
        """Listens to the interactors of slice views before their own tools do."""
        self._scene, self._clicked = scene, clicked
        self._tags = [(one, one.AddObserver("LeftButtonPressEvent", self._pressed, 100.0)) for one in interactors]

    def _pressed(self, caller: vtk.vtkObject, event: str) -> None:
        ras = mouse_ras(self._scene)
        if ras is not None:
            self._clicked(ras)

    def stop(self) -> None:
        """Listens no more."""
        for one, tag in self._tags:
            one.RemoveObserver(tag)
        self._tags = []


def layout_manager() -> slicer.qSlicerLayoutManager | None:
    """What lays out the views; None without an application window (scripts, tests)."""
    return slicer.app.layoutManager() if hasattr(slicer.app, "layoutManager") else None


def slice_interactors() -> list[vtk.vtkRenderWindowInteractor]:
    """Interactors of the slice views on screen; empty without an application window."""
    manager = layout_manager()
    if manager is None:
        return []
    return [manager.sliceWidget(name).sliceView().interactor() for name in manager.sliceViewNames()]


def _column(node: slicer.vtkMRMLSliceNode, number: int) -> Vector:
    """A column of a view's place in the world: 0 right, 1 up, 2 normal (unit length), 3 middle."""
    matrix = node.GetSliceToRAS()
    column = np.array([matrix.GetElement(row, number) for row in range(3)])
    return column / max(float(np.linalg.norm(column)), 1e-12) if number < 3 else column
