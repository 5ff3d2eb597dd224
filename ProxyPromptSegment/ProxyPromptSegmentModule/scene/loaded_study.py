"""A study of a folder in the scene: put there with its result to be looked at, and taken out if nothing changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ProxyPromptSegmentLib.imaging.geometry import Axis
from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.facts import Facts, write_facts
from ProxyPromptSegmentModule.scene.hand_marks import marks_of
from ProxyPromptSegmentModule.scene.lattices import LPS_OF_RAS, ijk_to_segmentation, labelmap_of, vtk_matrix_of
from ProxyPromptSegmentModule.scene.new_segments import SegmentNames, create_segmentation, make_segment
from ProxyPromptSegmentModule.scene.nodes import BINARY_LABELMAP, MADE_FOR, add_node, in_scene, nodes_of, remove_node
from ProxyPromptSegmentModule.scene.owners import claim, results_of
from ProxyPromptSegmentModule.scene.pairing import image_of
from ProxyPromptSegmentModule.scene.segment_state import SegmentStates
from ProxyPromptSegmentModule.scene.slice_prints import SlicePrints
from ProxyPromptSegmentModule.scene.slice_views import slice_count
from ProxyPromptSegmentModule.scene.terminology import OBJECT_TAG, TAG, tag_of
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.scene.pieces import Pieces
    from ProxyPromptSegmentModule.scene.read_study import ReadSegment, ReadStudy


def study_in_pieces(
    read: ReadStudy, name: str, known: SegmentStates
) -> Pieces[tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode | None] | None]:
    """Put a study into the scene, with its result as a run would have left it, in pieces.

    Neither has a file: saving them asks for a place, and never writes over the archive. No voxel is copied. What cannot
    be put there to its end is taken out again.

    Args:
        read: The study.
        name: Name of its image.
        known: What the segments of the scene hold; those of the result are known from then on.

    Returns:
        Image and result, which is None without one; None if they were removed meanwhile.
    """
    made: list[slicer.vtkMRMLDisplayableNode] = []
    found = None
    try:
        found = yield from _added(read, name, known, made)
    finally:  # also if it fails or is ended between two pieces
        if found is None and not slicer.mrmlScene.IsClosing():
            for node in filter(in_scene, reversed(made)):
                remove_node(node)
    return found


def _added(
    read: ReadStudy, name: str, known: SegmentStates, made: list[slicer.vtkMRMLDisplayableNode]
) -> Pieces[tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode | None] | None]:
    """Do what `study_in_pieces` does; ``made`` receives the nodes."""
    volume = _add_image(read, name)
    made.append(volume)
    yield
    if in_scene(volume):
        _add_display(volume, read.window)
    yield
    if not read.segments or not in_scene(volume):
        return (volume, None) if in_scene(volume) else None
    node = create_segmentation(volume, _("{volume} segmentation").format(volume=volume.GetName()))
    made.append(node)
    node.SetAttribute(MADE_FOR, volume.GetID())
    ids = {}
    names = SegmentNames(
        objects=tuple(one.name for one in read.segments),
        colors=tuple(one.color_rgb for one in read.segments),
        terminologies=tuple(one.terminology for one in read.segments),
    )
    for number, one in enumerate(read.segments):
        yield
        if not (in_scene(volume) and in_scene(node)):
            return None
        ids[one.name] = _add_segment(node, volume, names, number, one, read.facts.axis)
        count = slice_count(volume, read.facts.axis)
        known.learn(node, ids[one.name], volume, read.facts.axis, count, one.prints, one.pixels)
    write_facts(node, volume, _by_id(read.facts, ids))
    return volume, node


def _add_image(read: ReadStudy, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    k, j, i = read.geometry.shape_kji
    image, scalars = vtk.vtkImageData(), numpy_to_vtk(read.voxels.reshape(k * j * i, -1), deep=False)
    image.SetDimensions(i, j, k)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    kind = slicer.vtkMRMLVectorVolumeNode if read.window is None else slicer.vtkMRMLScalarVolumeNode
    node = add_node(slicer.mrmlScene, kind, name)
    node.SetIJKToRASMatrix(vtk_matrix_of(np.linalg.inv(LPS_OF_RAS) @ read.geometry.affine))
    node.SetAndObserveImageData(image)
    return node


def _add_display(volume: slicer.vtkMRMLScalarVolumeNode, window: tuple[float, float] | None) -> None:
    """Show an image as Slicer would by itself, with the window that is known already."""
    if window is None:
        volume.CreateDefaultDisplayNodes()
        return
    display = add_node(slicer.mrmlScene, slicer.vtkMRMLScalarVolumeDisplayNode, "")
    display.SetDefaultColorMap()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(*window)
    volume.SetAndObserveDisplayNodeID(display.GetID())


def _add_segment(
    node: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLVolumeNode,
    names: SegmentNames,
    number: int,
    one: ReadSegment,
    axis: Axis,
) -> str:
    """Add a segment; return its id."""
    inside = node.GetSegmentation()
    segment_id = make_segment(inside, one.name, number, names)
    segment = inside.GetSegment(segment_id)
    if one.mask.size:
        matrix = ijk_to_segmentation(volume, node)
        assert matrix is not None  # neither has a transform
        spans = [(low, low + size - 1) for low, size in zip(one.start, one.mask.shape, strict=True)]
        segment.AddRepresentation(BINARY_LABELMAP, labelmap_of(one.mask, matrix, (*spans[2], *spans[1], *spans[0])))
    if one.written is not None:
        segment.SetTag(OBJECT_TAG, one.name)
        SlicePrints(axis, dict(one.written)).save(segment)
        claim(node, segment_id, volume)
    return segment_id


def _by_id(facts: Facts, ids: Mapping[str, str]) -> Facts:
    return replace(
        facts,
        lowest={ids[name]: one for name, one in facts.lowest.items() if name in ids},
        doubts={ids[name]: found for name, found in facts.doubts.items() if name in ids},
        confidence={ids[name]: values for name, values in facts.confidence.items() if name in ids},
    )


Content = dict[str, tuple[str, str, str, Mapping[int, str] | None]]
"""Name, terminology and voxels of each segment of a result, and its prints of what runs wrote, by its id."""


def content_now(
    volume: slicer.vtkMRMLVolumeNode, result: slicer.vtkMRMLSegmentationNode, known: SegmentStates, axis: Axis
) -> Content | None:
    """Return what a result holds now; None if a segment cannot be read on the image's grid."""
    found: Content = {}
    inside = result.GetSegmentation()
    for segment_id in inside.GetSegmentIDs():
        segment, state = inside.GetSegment(segment_id), known.of(result, segment_id, volume, axis)
        if state is None:
            return None
        prints = SlicePrints.read(segment)
        named = segment.GetName(), tag_of(segment, TAG)
        found[segment_id] = (*named, state.content, None if prints is None else prints.prints)
    return found


def is_untouched(
    volume: slicer.vtkMRMLVolumeNode,
    result: slicer.vtkMRMLSegmentationNode | None,
    kept: Content,
    known: SegmentStates,
    axis: Axis,
    in_use: Sequence[slicer.vtkMRMLNode],
) -> bool:
    """Return whether nothing of the user's belongs to a study, so that it can be taken out of the scene.

    Args:
        volume: The study's image.
        result: Its result, as it was loaded; None without one.
        kept: What the folder has of its result.
        known: What the segments of the scene hold.
        axis: The axis of the result.
        in_use: Nodes that are used elsewhere, such as supports.
    """
    scene = volume.GetScene()
    if scene is None or volume in in_use or marks_of(scene, volume):
        return False
    if [node for node in results_of(scene, volume) if node is not result]:
        return False
    drawn = [node for node in nodes_of(scene, slicer.vtkMRMLSegmentationNode) if image_of(node) is volume]
    if [node for node in drawn if node is not result]:
        return False
    if result is None or not in_scene(result):
        return result is None
    if result in in_use or result_nodes.record_of(result, volume) is not None:  # a run has written into it
        return False
    return content_now(volume, result, known, axis) == kept


def take_out_in_pieces(volume: slicer.vtkMRMLVolumeNode, result: slicer.vtkMRMLSegmentationNode | None) -> Pieces[None]:
    """Remove a study with its result, their tables and their displays; each takes up to 25 ms, and so does rendering.

    What was begun is ended at once where the pieces are closed.
    """
    try:
        if result is not None and in_scene(result):
            result_nodes.remove(result)
            remove_node(result)
            yield
    finally:
        if not slicer.mrmlScene.IsClosing():
            remove_node(volume)
