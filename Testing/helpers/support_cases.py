"""Annotated cases in a real MRML scene, and what the tests of supports do with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrml_scene import add_segmentation, add_volume

SHAPE = (8, 24, 32)
PLACE = np.array([[-0.8, 0, 0, 40], [0, -0.8, 0, 30], [0, 0, 3, -10], [0, 0, 0, 1]])


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, SHAPE, dtype=np.int16)


def box(k: slice, j: slice = slice(5, 15), i: slice = slice(8, 20)) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[k, j, i] = 1
    return mask


def a_case(name: str = "MRI", seed: int = 0, **masks: np.ndarray):
    """Volume and segmentation nodes; by default a prostate on slices 2 to 5 and a cyst on slice 3."""
    volume = add_volume(image(seed), PLACE, name)
    masks = masks or {"prostate": box(slice(2, 6)), "cyst": box(slice(3, 4), slice(6, 9), slice(10, 13))}
    return volume, add_segmentation(volume, masks, f"{name} marks")


def a_node():
    import slicer

    node = slicer.vtkMRMLScriptedModuleNode()
    node.SetModuleName("ProxyPromptSegment")
    node.SetSingletonTag("ProxyPromptSegment")
    return slicer.mrmlScene.AddNode(node)


def paint(volume, segmentation, name: str, mask: np.ndarray) -> None:
    import slicer.util

    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, name, volume)


def state_of(*nodes) -> list[object]:
    """What must not change of the user's nodes."""
    import slicer.util

    told = []
    for node in nodes:
        told.append((node.GetMTime(), node.GetName()))
        if node.IsA("vtkMRMLVolumeNode"):
            told.append((node.GetImageData().GetMTime(), slicer.util.arrayFromVolume(node).tobytes()))
        else:
            segmentation = node.GetSegmentation()
            told.append(segmentation.GetMTime())
            segments = [segmentation.GetSegment(one) for one in segmentation.GetSegmentIDs()]
            told += [(one.GetMTime(), one.GetRepresentation("Binary labelmap").GetMTime()) for one in segments]
    return told


def save(saved, path: Path) -> None:
    """Writes voxels and scene as Slicer does."""
    for number in range(saved.GetNumberOfNodes()):
        node = saved.GetNthNode(number)
        if node.IsA("vtkMRMLStorableNode") and node.GetSaveWithScene() and node.IsA("vtkMRMLDisplayableNode"):
            node.AddDefaultStorageNode()
            ending = "seg.nrrd" if node.IsA("vtkMRMLSegmentationNode") else "nrrd"
            node.GetStorageNode().SetFileName(str(path.with_name(f"{number}.{ending}")))
            assert path.suffix == ".mrb" or node.GetStorageNode().WriteData(node)
    saved.SetRootDirectory(str(path.parent))
    assert saved.WriteToMRB(str(path), None) if path.suffix == ".mrb" else saved.Commit(str(path))


def load(empty, path: Path) -> None:
    if path.suffix == ".mrb":
        import slicer

        folder = path.with_suffix(".unpacked")
        folder.mkdir()
        assert slicer.app.applicationLogic().OpenSlicerDataBundle(str(path), str(folder))
    else:
        empty.SetURL(str(path))
        assert empty.Connect()
