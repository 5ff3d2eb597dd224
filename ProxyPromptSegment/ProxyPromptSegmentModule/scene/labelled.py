"""Labels as a segmentation of a volume: one segment for each label, all of them in one layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import slicer
import slicer.util

from ProxyPromptSegmentLib.imaging.segmentations import default_color
from ProxyPromptSegmentModule.scene.lattices import ijk_to_ras, vtk_matrix_of
from ProxyPromptSegmentModule.scene.new_segments import create_segmentation
from ProxyPromptSegmentModule.scene.nodes import MADE_FOR, add_node
from ProxyPromptSegmentModule.scene.owners import claim_whole


def write_labels(
    volume: slicer.vtkMRMLVolumeNode, labels: npt.NDArray[np.uint16], names: Sequence[str], name: str
) -> tuple[slicer.vtkMRMLSegmentationNode, dict[str, str]]:
    """Make a segmentation of labels on the grid of a volume.

    Args:
        volume: The volume.
        labels: 0 for nothing, else 1, 2, ...; uint16 ``(K, J, I)``.
        names: Name of each label, of 1 first.
        name: Name of the segmentation.

    Returns:
        The segmentation, and the id of the segment of each name; a label without voxels has none.
    """
    scene = volume.GetScene()
    assert scene is not None  # it was just read
    node = create_segmentation(volume, name)
    node.SetAttribute(MADE_FOR, volume.GetID())
    claim_whole(node, volume)
    label_map = add_node(scene, slicer.vtkMRMLLabelMapVolumeNode, name)
    try:
        slicer.util.updateVolumeFromArray(label_map, labels)
        label_map.SetIJKToRASMatrix(vtk_matrix_of(ijk_to_ras(volume)))
        label_map.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(label_map, node)
    finally:
        scene.RemoveNode(label_map)
    ids: dict[str, str] = {}
    inside = node.GetSegmentation()
    for segment_id in inside.GetSegmentIDs():
        segment = inside.GetSegment(segment_id)
        number = segment.GetLabelValue() - 1
        segment.SetName(names[number])
        segment.SetColor(*default_color(number))
        ids[names[number]] = segment_id
    return node, ids
