"""Cases in a real scene: a drawn pelvis for quick tests, prostates of real patients for the walk through a session."""

from __future__ import annotations

import numpy as np

from mrml_scene import add_volume, matrix_of

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SMALL = (12, 48, 48)


def add_case(seed, size=SMALL, name=None, parent=None, segment="prostate"):
    """A drawn pelvis: its volume node and a segmentation node with its prostate."""
    import slicer
    import slicer.util

    from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom

    volume, segmentation = pelvis_phantom(seed, size)
    name = name or f"pelvis {seed}"
    volume_node = add_volume(volume.array, LPS_RAS @ volume.geometry.affine, name, parent)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{name} segmentation")
    node.CreateDefaultDisplayNodes()
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    node.GetSegmentation().AddEmptySegment(segment, segment, [0.2, 0.7, 0.3])
    slicer.util.updateSegmentBinaryLabelmapFromArray(segmentation.segments[0].mask, node, segment, volume_node)
    return volume_node, node


def load_volume(path, name):
    """A volume file, read by Slicer's own reader."""
    import slicer

    node = slicer.modules.volumes.logic().AddArchetypeVolume(str(path), name)
    assert node is not None, f"Slicer cannot read {path}"
    return node


def load_prostate(folder, name, reader=1):
    """A patient of Prostate158: the volume node, and a segmentation node with its two zones and the gland."""
    import slicer
    import slicer.util

    volume_node = load_volume(folder / "t2.nii.gz", name)
    labels = load_volume(folder / f"t2_anatomy_reader{reader}.nii.gz", f"{name} labels")
    marked = slicer.util.arrayFromVolume(labels).astype(np.uint8)
    slicer.mrmlScene.RemoveNode(labels)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{name} segmentation")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    colors = {"gland": (0.2, 0.7, 0.3), "transition zone": (0.9, 0.5, 0.1), "peripheral zone": (0.2, 0.4, 0.9)}
    masks = {"gland": marked > 0, "transition zone": marked == 1, "peripheral zone": marked == 2}
    for segment, mask in masks.items():
        node.GetSegmentation().AddEmptySegment(segment, segment, list(colors[segment]))
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segment, volume_node)
    return volume_node, node


def turned(degrees):
    """A rotation about two axes with a shift, RAS 4x4: a patient who lies askew."""
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 2)
    about_s = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_r = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_s @ about_r
    matrix[:3, 3] = (12.0, -7.0, 30.0)
    return matrix


def scene_state(scene, leaving_out=()):
    """What every node says of itself, to compare before and after: ``{id: (class, name, MTime of its voxels)}``."""
    state = {}
    for number in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(number)
        if node.GetID() in leaving_out:
            continue
        voxels = None
        if node.IsA("vtkMRMLVolumeNode") and node.GetImageData():
            voxels = node.GetImageData().GetMTime()
        elif node.IsA("vtkMRMLSegmentationNode"):
            voxels = node.GetSegmentation().GetMTime()
        state[node.GetID()] = (node.GetClassName(), node.GetName(), node.GetMTime(), voxels)
    return state


def cells(segmentation):
    """The table of the results in a segmentation: rows as dictionaries of texts."""
    from ProxyPromptSegmentModule.scene.result_nodes import table_of

    table = table_of(segmentation)
    names = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    return [{name: table.GetCellText(row, n) for n, name in enumerate(names)} for row in range(table.GetNumberOfRows())]


__all__ = ["add_case", "cells", "load_prostate", "load_volume", "matrix_of", "scene_state", "turned"]
