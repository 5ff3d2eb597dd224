"""The slice views: which slice of a volume they show, jumps, and clicks; no Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import slicer
import vtk

from ProxyPromptSegmentLib.imaging.geometry import AXES, Axis, VolumeGeometry, auto_axis, axis_number
from ProxyPromptSegmentLib.support.matching import is_sliceable, parallel_axis
from ProxyPromptSegmentModule.scene.hand_marks import show_marks
from ProxyPromptSegmentModule.scene.mark_boxes import corners_of_box
from ProxyPromptSegmentModule.scene.nodes import geometry_of, in_scene, nodes_of, slice_ras
from ProxyPromptSegmentModule.scene.overlay import take_off
from ProxyPromptSegmentModule.scene.owners import film_of, is_film, is_result, is_whole, volume_of_segment, whole_of
from ProxyPromptSegmentModule.scene.pieces import DrawnPieces, at_once

Vector = npt.NDArray[np.float64]
"""A position or a direction, RAS in mm, ``(3,)``."""


class Case(Protocol):
    """An image and its annotation, such as a `SupportRow`; ids are None if there is no node."""

    @property
    def volume_id(self) -> str | None:
        """Node of the image."""

    @property
    def segmentation_id(self) -> str | None:
        """Node of the annotation."""


_PARALLEL = 0.9
"""Smallest cosine between the normals of a view and of a volume's slices for which the view shows these slices."""


def slice_count(volume: slicer.vtkMRMLVolumeNode | None, axis: Axis) -> int:
    """Return the number of slices along an axis; 0 without image data."""
    image = volume.GetImageData() if volume is not None else None
    return int(image.GetDimensions()[2 - AXES.index(axis)]) if image is not None else 0


def stack_line(volume: slicer.vtkMRMLVolumeNode, axis: Axis) -> tuple[Vector, Vector]:
    """Return the centre of slice 0 and the step to the next slice, RAS in mm.

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
    """Return the slice nodes of the current layout, or all if there is no layout."""
    nodes = nodes_of(scene, slicer.vtkMRMLSliceNode)
    return [node for node in nodes if node.IsMappedInLayout()] or nodes


def parallel_views(
    scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, axis: Axis
) -> list[slicer.vtkMRMLSliceNode]:
    """Return the views that show the slices along an axis, the most parallel first."""
    step = stack_line(volume, axis)[1]
    normal = step / max(float(np.linalg.norm(step)), 1e-12)
    found: list[tuple[float, int, slicer.vtkMRMLSliceNode]] = []
    for node in slice_nodes(scene):
        alike = abs(float(_column(node, 2) @ normal))
        if alike >= _PARALLEL:
            found.append((-alike, len(found), node))
    return [node for _alike, _number, node in sorted(found, key=lambda one: one[:2])]


def slice_on_screen(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, axis: Axis) -> int | None:
    """Return the slice along an axis that a view shows, counted from 0, or None."""
    if slice_count(volume, axis) == 0:
        return None
    found = (slice_in_view(node, volume, axis) for node in parallel_views(scene, volume, axis))
    return next((index for index in found if index is not None), None)


def slice_in_view(node: slicer.vtkMRMLSliceNode, volume: slicer.vtkMRMLVolumeNode, axis: Axis) -> int | None:
    """Return the slice along an axis that a parallel view shows; None outside the volume."""
    first, step = stack_line(volume, axis)
    normal = _column(node, 2)
    along = float(step @ normal)
    index = round(float((_column(node, 3) - first) @ normal) / along) if along else -1
    return index if 0 <= index < slice_count(volume, axis) else None


def show_slice(
    scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, axis: Axis, index: int, center: bool = False
) -> None:
    """Show a slice in the views that are parallel to it, or with ``center`` its centre in all views."""
    ras = slice_ras(volume, axis, index)
    if center:
        jump_to(scene, ras)
        return
    for node in parallel_views(scene, volume, axis):
        node.JumpSliceByOffsetting(*ras)


def jump_to(scene: slicer.vtkMRMLScene, ras: tuple[float, float, float]) -> None:
    """Move all views through a world position, without moving them sideways."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *ras, slicer.vtkMRMLSliceNode.OffsetJumpSlice)


def slices_in_box(volume: slicer.vtkMRMLVolumeNode, axis: Axis, box: slicer.vtkMRMLMarkupsROINode) -> range:
    """Return the slices along an axis that a box intersects; empty if it does not intersect the volume."""
    corners = corners_of_box(box)
    if corners is None:  # nothing is drawn yet
        return range(0)
    first, step = stack_line(volume, axis)
    along = (np.array(corners) - first) @ step / float(step @ step)
    count = slice_count(volume, axis)
    return range(max(0, int(np.ceil(along.min() - 0.5))), min(count - 1, int(np.floor(along.max() + 0.5))) + 1)


def fit_box(volume: slicer.vtkMRMLVolumeNode, box: slicer.vtkMRMLMarkupsROINode) -> None:
    """Fit a new box to a volume, aligned with its slices; a box that has a size does not change."""
    bounds = [0.0] * 6
    box.GetRASBounds(bounds)
    if bounds[0] < bounds[1]:
        return
    middle, directions, sizes = np.zeros(3), np.eye(3), []
    for number, axis in enumerate(reversed(AXES)):
        first, step = stack_line(volume, axis)
        length, count = float(np.linalg.norm(step)), slice_count(volume, axis)
        middle = first + step * (count - 1) / 2  # the centre of the middle slice, the same point for every axis
        directions[:, number] = step / max(length, 1e-12)
        sizes.append(length * count)
    if np.linalg.det(directions) < 0:  # a box is rotated, never mirrored
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
    """Return the slicing axis of a target as the library chooses it (`matching.choose_axes`), from geometry alone.

    Args:
        target: Volume node.
        wanted: ``auto``, or an axis, which is returned.
        support_geometry: Geometry of the first support, if there is one.
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
    """Show a volume in all slice views and fit them, unless a view already shows it."""
    at_once(show_volume_in_pieces(scene, volume))


def show_volume_in_pieces(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode) -> DrawnPieces[None]:
    """Do what `show_volume` does, one view after another: 300 slices of 512 x 512 take 60 ms in each."""
    views = nodes_of(scene, slicer.vtkMRMLSliceCompositeNode)
    if any(volume.GetID() in (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID()) for view in views):
        return
    for view in views:
        view.SetBackgroundVolumeID(volume.GetID())
        yield True
    logics = slicer.app.applicationLogic().GetSliceLogics()
    every = [logics.GetItemAsObject(n) for n in range(logics.GetNumberOfItems())] if logics is not None else []
    for logic in every:  # also of linked views; no view is rotated
        if in_scene(volume) and logic is not None:
            logic.FitSliceToAll()
            logic.SnapSliceOffsetToIJK()
            yield True


def volume_on_screen(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLVolumeNode | None:
    """Return the volume that a slice view shows in the background, or None."""
    for view in nodes_of(scene, slicer.vtkMRMLSliceCompositeNode):
        found: slicer.vtkMRMLVolumeNode | None = scene.GetNodeByID(view.GetBackgroundVolumeID() or "")
        if found is not None:
            return found
    return None


def show_case(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, rows: Sequence[Case]) -> None:
    """Show a volume without the results and supports of other volumes, see `show_only_own`."""
    show_volume(scene, volume)
    show_only_own(scene, volume, rows)


def show_only_own(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, rows: Sequence[Case]) -> None:
    """Hide results, supports, marks and overlays of other volumes; show those of this one that were hidden therefore.

    Two patients overlap in world coordinates, and the contour of one on the image of the other could be mistaken for a
    result. What the user has hidden, and segmentations that are neither results nor supports, do not change.

    Args:
        scene: The scene.
        volume: Volume node.
        rows: The supports (`SupportRow`).
    """
    take_off(scene, volume)
    show_marks(scene, volume)
    supports: dict[str, set[str | None]] = {}
    for row in rows:
        if row.segmentation_id and row.volume_id:
            supports.setdefault(row.segmentation_id, set()).add(row.volume_id)
    for node in nodes_of(scene, slicer.vtkMRMLSegmentationNode):
        display = node.GetDisplayNode()
        ids = list(node.GetSegmentation().GetSegmentIDs())
        pairs = supports.get(node.GetID(), set())
        foreign = {one for one in ids if _is_foreign(node, one, volume, pairs)}
        everything = len(foreign) == len(ids) if ids else bool(pairs) and volume.GetID() not in pairs
        if display is not None:
            _show_own_segments(node, display, ids, foreign, everything)


_HIDDEN = "ProxyPrompt.hidden"
"""Attribute of a segmentation: what was hidden because another case is shown; segment ids, or `_ALL`."""
_ALL = "*"


def _is_foreign(
    node: slicer.vtkMRMLSegmentationNode, segment_id: str, volume: slicer.vtkMRMLVolumeNode, pairs: set[str | None]
) -> bool:
    """Return whether a segment is a result or a support of another volume only."""
    if is_film(node):
        return film_of(node) is not volume
    if is_whole(node):
        return whole_of(node) is not volume
    if is_result(node, segment_id):
        return volume_of_segment(node, segment_id) is not volume
    return bool(pairs) and volume.GetID() not in pairs


def _show_own_segments(
    node: slicer.vtkMRMLSegmentationNode,
    display: slicer.vtkMRMLSegmentationDisplayNode,
    ids: Sequence[str],
    foreign: set[str],
    everything: bool,
) -> None:
    """Hide the foreign segments of a segmentation, the node itself if all are, and show the others again."""
    hidden = set((node.GetAttribute(_HIDDEN) or "").split())
    now = set()
    if everything:
        if display.GetVisibility() or _ALL in hidden:
            now.add(_ALL)
    elif _ALL in hidden:
        display.SetVisibility(True)
    if _ALL in now and display.GetVisibility():
        display.SetVisibility(False)
    for one in ids:
        if one in foreign and (display.GetSegmentVisibility(one) or one in hidden):
            now.add(one)
        seen = bool(display.GetSegmentVisibility(one))
        if seen and one in now and _ALL not in now:
            display.SetSegmentVisibility(one, False)
        elif not seen and one in hidden and one not in now:
            display.SetSegmentVisibility(one, True)
    if now != hidden:
        node.SetAttribute(_HIDDEN, " ".join(sorted(now)))


def crosshair_node(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLCrosshairNode | None:
    """Return the crosshair node, which also has the mouse position, or None."""
    node: slicer.vtkMRMLCrosshairNode | None = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    return node


def crosshair_ras(scene: slicer.vtkMRMLScene) -> tuple[float, float, float] | None:
    """Return the crosshair's world position, or None."""
    node = crosshair_node(scene)
    return node.GetCrosshairRAS() if node is not None else None


def mouse_ras(scene: slicer.vtkMRMLScene) -> tuple[float, float, float] | None:
    """Return the world position of the mouse in a slice view; None outside the views."""
    node, ras = crosshair_node(scene), [0.0, 0.0, 0.0]
    return (ras[0], ras[1], ras[2]) if node is not None and node.GetCursorPositionRAS(ras) else None


class Clicks:
    """An observer that reports the world positions of clicks into slice views, until `stop`."""

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        interactors: Sequence[vtk.vtkRenderWindowInteractor],
        clicked: Callable[[tuple[float, float, float]], None],
    ) -> None:
        """Observe the interactors of slice views with a higher priority than their own tools."""
        self._scene, self._clicked = scene, clicked
        self._tags = [(one, one.AddObserver("LeftButtonPressEvent", self._pressed, 100.0)) for one in interactors]

    def _pressed(self, caller: vtk.vtkObject, event: str) -> None:
        ras = mouse_ras(self._scene)
        if ras is not None:
            self._clicked(ras)

    def stop(self) -> None:
        """Stop observing."""
        for one, tag in self._tags:
            one.RemoveObserver(tag)
        self._tags = []


def layout_manager() -> slicer.qSlicerLayoutManager | None:
    """Return the layout manager; None without an application window (scripts, tests)."""
    return slicer.app.layoutManager() if hasattr(slicer.app, "layoutManager") else None


def slice_interactors() -> list[vtk.vtkRenderWindowInteractor]:
    """Return the interactors of the slice views on screen; empty without an application window."""
    return list(named_interactors().values())


def named_interactors() -> dict[str, vtk.vtkRenderWindowInteractor]:
    """Return the interactors of the slice views on screen by layout name; empty without an application window."""
    manager = layout_manager()
    if manager is None:
        return {}
    return {name: manager.sliceWidget(name).sliceView().interactor() for name in manager.sliceViewNames()}


def _column(node: slicer.vtkMRMLSliceNode, number: int) -> Vector:
    """Return a column of a view's SliceToRAS matrix: 0 right, 1 up, 2 normal (unit length), 3 centre."""
    matrix = node.GetSliceToRAS()
    column = np.array([matrix.GetElement(row, number) for row in range(3)])
    return column / max(float(np.linalg.norm(column)), 1e-12) if number < 3 else column
