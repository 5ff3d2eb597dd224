"""The colours over the image: whose they are, and what is left of them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
import slicer.util

from mrml_scene import add_volume
from mrml_writing import AFFINE, SHAPE
from ProxyPromptSegmentModule.scene.overlay import OPACITY, Overlay, take_off_strays
from ProxyPromptSegmentModule.scene.slice_views import show_only_own, show_volume
from widget_cases import add_views

pytestmark = pytest.mark.usefixtures("scene")
VALUES = np.random.default_rng(3).integers(0, 256, SHAPE).astype(np.uint8)


@pytest.fixture
def volume(scene):
    add_views()
    made = add_volume(np.random.default_rng(9).normal(size=SHAPE).astype(np.float32), AFFINE, "MR")
    for view in views():
        view.SetBackgroundVolumeID(made.GetID())
    return made


def views():
    scene = slicer.mrmlScene
    return [scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode") for n in range(3)]


def foreground():
    return {view.GetForegroundVolumeID() for view in views()}


def volumes():
    return slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode")


def test_the_overlay_lies_exactly_over_its_volume_and_is_not_saved(volume):
    overlay = Overlay()
    overlay.show(volume, VALUES)
    (identifier,) = foreground()
    node = slicer.mrmlScene.GetNodeByID(identifier)
    assert np.array_equal(slicer.util.arrayFromVolume(node), VALUES)
    import vtk

    matrices = [vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()]
    for one, matrix in zip((volume, node), matrices, strict=True):
        one.GetIJKToRASMatrix(matrix)
    assert all(matrices[0].GetElement(r, c) == matrices[1].GetElement(r, c) for r in range(4) for c in range(4))
    assert node.GetHideFromEditors() and not node.GetSaveWithScene() and not node.GetDisplayNode().GetSaveWithScene()
    assert all(view.GetForegroundOpacity() == OPACITY for view in views())


def test_hiding_it_restores_the_foreground_and_leaves_no_node(volume, other):
    before = slicer.mrmlScene.GetNumberOfNodes()
    views()[0].SetForegroundVolumeID(other.GetID())
    views()[0].SetForegroundOpacity(0.3)
    overlay = Overlay()
    overlay.show(volume, VALUES)
    overlay.show(volume, VALUES)
    overlay.hide()
    overlay.hide()
    assert not overlay.is_shown and slicer.mrmlScene.GetNumberOfNodes() == before
    assert views()[0].GetForegroundVolumeID() == other.GetID() and views()[0].GetForegroundOpacity() == 0.3
    assert views()[1].GetForegroundVolumeID() is None


def test_it_never_lies_on_another_patient(volume, other):
    overlay = Overlay()
    views()[2].SetBackgroundVolumeID(other.GetID())
    overlay.show(volume, VALUES)
    assert views()[2].GetForegroundVolumeID() is None, "this view shows another patient"
    show_volume(slicer.mrmlScene, other)
    for view in views():
        view.SetBackgroundVolumeID(other.GetID())
    show_only_own(slicer.mrmlScene, other, [])
    assert foreground() == {None}


def test_a_foreground_of_the_user_is_left_alone(volume, other):
    views()[1].SetForegroundVolumeID(volume.GetID())
    show_only_own(slicer.mrmlScene, other, [])
    assert views()[1].GetForegroundVolumeID() == volume.GetID()


def test_what_was_in_the_foreground_may_be_removed_meanwhile(volume, other):
    views()[0].SetForegroundVolumeID(other.GetID())
    overlay = Overlay()
    overlay.show(volume, VALUES)
    slicer.mrmlScene.RemoveNode(other)
    overlay.hide()
    assert foreground() == {None}
    overlay.show(volume, VALUES)
    slicer.mrmlScene.Clear(0)
    overlay.hide()
    assert not overlay.is_shown


def test_it_leaves_any_single_view_that_comes_to_show_another_patient(volume, other):
    overlay = Overlay()
    overlay.show(volume, VALUES)
    views()[2].SetBackgroundVolumeID(other.GetID())
    take_off_strays(slicer.mrmlScene)
    assert views()[2].GetForegroundVolumeID() is None
    assert views()[0].GetForegroundVolumeID() is not None
