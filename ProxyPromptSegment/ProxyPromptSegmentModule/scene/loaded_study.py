"""A study of a folder in the scene: put there with its result to be looked at, and taken out if nothing changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import slicer
import slicer.util

from ProxyPromptSegmentLib.imaging.geometry import Axis
from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.facts import Facts, write_facts
from ProxyPromptSegmentModule.scene.hand_marks import marks_of
from ProxyPromptSegmentModule.scene.lattices import LPS_OF_RAS
from ProxyPromptSegmentModule.scene.new_segments import SegmentNames, create_segmentation, make_segment
from ProxyPromptSegmentModule.scene.nodes import MADE_FOR, in_scene, nodes_of
from ProxyPromptSegmentModule.scene.owners import claim, result_segments, results_of
from ProxyPromptSegmentModule.scene.pairing import image_of
from ProxyPromptSegmentModule.scene.segment_state import SegmentStates
from ProxyPromptSegmentModule.scene.slice_prints import SlicePrints
from ProxyPromptSegmentModule.scene.terminology import OBJECT_TAG
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
    from ProxyPromptSegmentLib.imaging.volumes import Volume


def add_study(volume: Volume, voxels: npt.NDArray[np.number], name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """Add the image of a study, without a file: saving it asks for a place, and never writes over the archive.

    Args:
        volume: The image.
        voxels: Its voxels in the type in which they are kept.
        name: Name of the node.
    """
    matrix = np.linalg.inv(LPS_OF_RAS) @ volume.geometry.affine
    kind = "vtkMRMLVectorVolumeNode" if volume.is_rgb else "vtkMRMLScalarVolumeNode"
    plain = name.replace("&", "+")  # see `nodes.add_node`
    node: slicer.vtkMRMLScalarVolumeNode = slicer.util.addVolumeFromArray(voxels, matrix, plain, kind)
    return node


def add_result(
    volume: slicer.vtkMRMLVolumeNode, result: Segmentation, prints: Sequence[Mapping[int, str]], facts: Facts
) -> slicer.vtkMRMLSegmentationNode:
    """Add the result of a study as a run would have left it, without a file.

    Args:
        volume: The study's image.
        result: What was found, on the image's grid.
        prints: Print of each slice of each segment.
        facts: What is known of the slices, with names in the place of the segments' ids.
    """
    node = create_segmentation(volume, _("{volume} segmentation").format(volume=volume.GetName()))
    node.SetAttribute(MADE_FOR, volume.GetID())
    inside, ids = node.GetSegmentation(), {}
    names = SegmentNames(
        objects=tuple(one.name for one in result.segments),
        colors=tuple(one.color_rgb for one in result.segments),
        terminologies=tuple(one.terminology for one in result.segments),
    )
    for number, (one, known) in enumerate(zip(result.segments, prints, strict=True)):
        segment_id = ids[one.name] = make_segment(inside, one.name, number, names)
        if one.mask.any():
            slicer.util.updateSegmentBinaryLabelmapFromArray(one.mask, node, segment_id, volume)
        segment = inside.GetSegment(segment_id)
        segment.SetTag(OBJECT_TAG, one.name)
        SlicePrints(facts.axis, dict(known)).save(segment)
        claim(node, segment_id, volume)
    write_facts(node, volume, _by_id(facts, ids))
    return node


def _by_id(facts: Facts, ids: Mapping[str, str]) -> Facts:
    return replace(
        facts,
        lowest={ids[name]: one for name, one in facts.lowest.items() if name in ids},
        doubts={ids[name]: found for name, found in facts.doubts.items() if name in ids},
    )


def is_untouched(
    volume: slicer.vtkMRMLVolumeNode,
    result: slicer.vtkMRMLSegmentationNode | None,
    known: SegmentStates,
    axis: Axis,
    in_use: Sequence[slicer.vtkMRMLNode],
) -> bool:
    """Return whether nothing of the user's belongs to a study, so that it can be taken out of the scene.

    Args:
        volume: The study's image.
        result: Its result, as it was loaded; None without one.
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
    ids = result_segments(result, volume)
    if len(ids) != result.GetSegmentation().GetNumberOfSegments():
        return False
    states = [known.of(result, one, volume, axis) for one in ids]
    return not any(state is None or state.changed for state in states)


def take_out(volume: slicer.vtkMRMLVolumeNode, result: slicer.vtkMRMLSegmentationNode | None) -> None:
    """Remove a study with its result, their tables and their displays."""
    scene = volume.GetScene()
    if scene is None:
        return
    if result is not None and in_scene(result):
        result_nodes.remove(result)
        _remove(scene, result)
    _remove(scene, volume)


def _remove(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLDisplayableNode) -> None:
    displays = [node.GetNthDisplayNode(number) for number in range(node.GetNumberOfDisplayNodes())]
    scene.RemoveNode(node)
    for display in displays:
        if display is not None and in_scene(display):
            scene.RemoveNode(display)
