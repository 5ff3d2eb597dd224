"""What marks by hand say of a target, in its voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import slicer

from ProxyPromptSegmentLib.imaging.geometry import Axis, axis_number
from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand, VoxelBox, VoxelMask, VoxelPoint
from ProxyPromptSegmentModule.scene.hand_marks import defined_in, kind_of, marks_of, object_of, order_of
from ProxyPromptSegmentModule.scene.mark_boxes import voxel_box
from ProxyPromptSegmentModule.scene.masks import segmentation_of
from ProxyPromptSegmentModule.scene.nodes import check_volume, exact_ijk
from ProxyPromptSegmentModule.states import Mark


def said_by(
    scene: slicer.vtkMRMLScene,
    target: slicer.vtkMRMLVolumeNode,
    axis: Axis,
    masks: Sequence[tuple[slicer.vtkMRMLSegmentationNode, str, str]] = (),
) -> ByHand:
    """Return what the marks on a target say, in voxels; what lies outside of the image is left out.

    Args:
        scene: The scene.
        target: The volume.
        axis: Axis across its slices; a box that was drawn on a slice stays on it.
        masks: Painted masks: segmentation, segment id and name of the object.

    Raises:
        ProxyPromptError: If a mask cannot be read.
    """
    points: list[tuple[int, VoxelPoint]] = []
    boxes: list[VoxelBox] = []
    for node in marks_of(scene, target):
        name, kind = object_of(node), kind_of(node)
        if kind == Mark.BOX:
            box = voxel_box(node, target, axis, name)
            boxes += [box] if box is not None else []
            continue
        for place in defined_in(node):
            ijk = exact_ijk(target, node.GetNthControlPointPositionWorld(place))
            if _lies_inside(target, ijk):
                points.append((order_of(node, place), VoxelPoint(ijk, kind == Mark.INSIDE, name)))
    painted: list[VoxelMask] = []
    for segmentation, segment_id, name in masks:
        read, _notes = segmentation_of(segmentation, target, [segment_id])
        if read.segments[0].mask.any():
            painted.append(VoxelMask(read.segments[0].mask, name))
    points.sort(key=lambda one: one[0])
    return ByHand(tuple(point for _order, point in points), tuple(boxes), tuple(painted))


def only_on(said: ByHand, axis: Axis, slices: Sequence[int] | None, names: Sequence[str]) -> ByHand:
    """Return what is said of some objects on some slices; of a box it needs all of its slices.

    Args:
        said: What is said.
        axis: Axis across the slices.
        slices: The slices; None means all.
        names: Names of the objects.
    """
    across, known = 2 - axis_number(axis), {name.casefold() for name in names}
    wanted = None if slices is None else set(slices)

    def is_wanted(first: float, last: float, name: str | None) -> bool:
        spanned = range(math.floor(first + 0.5), math.floor(last + 0.5) + 1)
        return (name or "").casefold() in known and (wanted is None or wanted.issuperset(spanned))

    return ByHand(
        tuple(one for one in said.points if is_wanted(one.ijk[across], one.ijk[across], one.object)),
        tuple(one for one in said.boxes if is_wanted(one.first[across], one.last[across], one.object)),
        tuple(one for one in said.masks if wanted is None and one.object.casefold() in known),
    )


def _lies_inside(volume: slicer.vtkMRMLVolumeNode, ijk: Sequence[float]) -> bool:
    sizes = check_volume(volume).GetDimensions()
    return all(-0.5 <= value < size - 0.5 for value, size in zip(ijk, sizes, strict=True))
