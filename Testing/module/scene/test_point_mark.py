"""The point that is explained is marked once, and the mark does not stay."""

from __future__ import annotations

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without an application")

from ProxyPromptSegmentModule.scene.point_mark import mark_point, unmark_point


def points(scene):
    return [scene.GetNthNodeByClass(n, "vtkMRMLMarkupsFiducialNode") for n in range(
        scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode")
    )]  # fmt: skip


def test_a_mark_moves_and_leaves_the_user_s_points_alone(scene):
    own = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "mine")
    first = mark_point(scene, (1.0, 2.0, 3.0), "prostate")
    again = mark_point(scene, (4.0, 5.0, 6.0), "prostate")
    assert again is first
    assert first.GetNumberOfControlPoints() == 1
    place = [0.0, 0.0, 0.0]
    first.GetNthControlPointPosition(0, place)
    assert place == [4.0, 5.0, 6.0]
    assert first.GetLocked()
    assert not first.GetSaveWithScene()
    unmark_point(scene)
    unmark_point(scene)
    assert points(scene) == [own]
