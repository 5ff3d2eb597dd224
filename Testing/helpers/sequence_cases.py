"""Sequences in a real scene for tests, and what would tell of a change in it."""

from __future__ import annotations

import numpy as np
import slicer

from mrml_scene import add_volume

NAMES = ("vessel", "wall")
COLORS = ((1.0, 0.2, 0.1), (0.1, 0.9, 0.3))
TERMS = (None, {"category": ["SCT", "123037004", "Anatomical Structure"], "type": ["SCT", "59820001", "Blood vessel"]})
OBLIQUE = np.array([[0, 0.6, 0.8, 3], [0, -0.8, 0.6, -20], [-1.0, 0, 0, 11], [0, 0, 0, 1]]) @ np.diag([0.7, 1.1, 4, 1])


def a_sequence(arrays, ijk_to_ras=None, name="cine", browser=None):
    """A sequence of volumes in a browser, and its proxy."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for number, array in enumerate(arrays):
        place = ijk_to_ras[number] if isinstance(ijk_to_ras, list) else ijk_to_ras
        volume = add_volume(array, place, f"frame {number}")
        sequence.SetDataNodeAtValue(volume, f"{number * 0.04:g}")
        slicer.mrmlScene.RemoveNode(volume.GetDisplayNode())
        slicer.mrmlScene.RemoveNode(volume)
    if browser is None:
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browser.AddSynchronizedSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return browser, sequence, browser.GetProxyNode(sequence)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(np.int16)


def some_masks(count, shape, seed=1):
    """Overlapping boxes that move; objects first."""
    masks = np.zeros((count, 2, *shape), np.uint8)
    for t in range(count):
        masks[t, 0, ..., 2 : 6 + t, 3:9] = 1
        masks[t, 1, ..., 4:8, 5 : 7 + t] = 1
    return masks


def state():
    """Every node of the scene with what would tell of a change, items and voxels of sequences included."""
    found = {}
    for number in range(slicer.mrmlScene.GetNumberOfNodes()):
        node = slicer.mrmlScene.GetNthNode(number)
        known = [node.GetName(), node.GetMTime()]
        if node.IsA("vtkMRMLSequenceNode"):
            for item in range(node.GetNumberOfDataNodes()):
                data = node.GetNthDataNode(item)
                known += [node.GetNthIndexValue(item), data.GetMTime(), data.GetImageData().GetMTime()]
        if node.IsA("vtkMRMLVolumeNode"):
            known.append(slicer.util.arrayFromVolume(node).tobytes())
        found[node.GetID()] = known
    return found


def shown(proxy, image_proxy):
    """What the proxy shows, by segment name, on the image's grid."""
    segmentation = proxy.GetSegmentation()
    return {
        segmentation.GetSegment(one).GetName(): np.asarray(
            slicer.util.arrayFromSegmentBinaryLabelmap(proxy, one, image_proxy) > 0, np.uint8
        )
        for one in segmentation.GetSegmentIDs()
    }
