"""Writes random masks through a `SegmentWriter` and reads everything back, for the tests of it."""

from __future__ import annotations

import numpy as np
import slicer.util

from mrml_scene import segment_array
from ProxyPromptSegmentLib.imaging.geometry import slice_view
from ProxyPromptSegmentModule.scene import nodes
from ProxyPromptSegmentModule.scene.segment_writer import SegmentNames, SegmentWriter

SHAPE = (6, 8, 10)
AFFINE = np.array([[0.0, -2, 0, 3], [2, 0, 0, -4], [0, 0, 5, 5], [0, 0, 0, 1]])
TURNED = np.array([[1.0, 0, 0, 3], [0, 0.8, -0.6, 1], [0, 0.6, 0.8, 2], [0, 0, 0, 1]])
STROKE = np.zeros(SHAPE[1:], np.uint8)
STROKE[2:5, 2:6] = 1
PROSTATE = "list~SCT^1^Anatomical~SCT^2^Prostate~^^~Anatomic~^^~^^"


def random_masks(seed=0, objects=1, shape=SHAPE):
    return (np.random.default_rng(seed).random((objects, *shape)) > 0.6).astype(np.uint8)


def view_of(volume, axis="k"):
    return slice_view(nodes.geometry_of(volume), axis)


def writer_for(segmentation, volume, names=("gland",), axis="k", **more):
    return SegmentWriter(segmentation, volume, view_of(volume, axis), SegmentNames(objects=tuple(names)), **more)


def write_all(writer, volume, masks, axis="k", indices=None):
    """Writes masks ``(N, K, J, I)`` slice by slice in the turned view."""
    turned = np.stack([view_of(volume, axis).take(mask) for mask in masks], axis=1)
    for index in range(len(turned)) if indices is None else indices:
        writer.write(index, turned[index])


def a_run(segmentation, volume, seed, indices=None, **more):
    """A run into the segments of earlier ones, from Apply to its end."""
    writer = writer_for(segmentation, volume, reuse=True, **more)
    write_all(writer, volume, random_masks(seed), **({} if indices is None else {"indices": indices}))
    writer.sign()
    return writer


def draw(segmentation, segment_id, volume, index, plane):
    """Change a slice as the Segment Editor does."""
    mask = segment_array(segmentation, segment_id, volume)
    mask[index] = plane
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment_id, volume)


def ids_of(segmentation):
    return list(segmentation.GetSegmentation().GetSegmentIDs())


def labelmap_of(segmentation, segment_id):
    return segmentation.GetSegmentation().GetSegment(segment_id).GetRepresentation("Binary labelmap")


def everything(segmentation, volume):
    """All that undo has to restore: names, order and voxels."""
    return [
        (
            one,
            segmentation.GetSegmentation().GetSegment(one).GetName(),
            segment_array(segmentation, one, volume).tobytes(),
        )
        for one in ids_of(segmentation)
    ]
