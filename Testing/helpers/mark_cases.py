"""Marks by hand in a real scene."""

from __future__ import annotations

import numpy as np


def ras_of(volume, ijk):
    """The world position of a voxel."""
    from mrml_scene import matrix_of
    from ProxyPromptSegmentModule.scene import lattices

    world = np.eye(4) if volume.GetParentTransformNode() is None else None
    local = (lattices.ijk_to_ras(volume) @ [*ijk, 1.0])[:3]
    if world is not None:
        return [float(x) for x in local]
    transform = lattices.transform_between(volume.GetParentTransformNode(), None)
    assert matrix_of is not None
    return [float(x) for x in transform.TransformPoint([float(x) for x in local])]


def click(volume, ijk, kind="inside", name="object"):
    """A click as Slicer leaves it: one more control point in the node of its kind."""
    from ProxyPromptSegmentModule.scene.hand_marks import new_mark, number_marks
    from ProxyPromptSegmentModule.states import Mark

    node = new_mark(volume, Mark(kind), name)
    node.AddControlPoint(*ras_of(volume, ijk), "")
    number_marks(volume.GetScene(), volume)
    return node


def draw_box(volume, first, last, name="object", node=None):
    """A box from voxel to voxel, as thick as it is drawn; in a node that is being placed, or a new one."""
    from ProxyPromptSegmentModule.scene.hand_marks import new_mark, number_marks
    from ProxyPromptSegmentModule.states import Mark

    node = new_mark(volume, Mark.BOX, name) if node is None else node
    low, high = np.array(ras_of(volume, first)), np.array(ras_of(volume, last))
    node.SetCenterWorld(*((low + high) / 2))
    node.SetSizeWorld(*np.abs(high - low))
    number_marks(volume.GetScene(), volume)
    return node


def middle_of(mask, index):
    """The voxel ``(i, j, k)`` in the middle of a mask on a slice along k."""
    rows, columns = np.nonzero(mask[index])
    return float(round(columns.mean())), float(round(rows.mean())), float(index)
