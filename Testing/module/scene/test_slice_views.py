"""Slice views of a real scene: which slice they show, where they jump, what a box meets."""

from __future__ import annotations

import numpy as np
import pytest

from mrml_scene import add_segmentation, add_transform, add_volume
from widget_cases import add_views

TURNED = np.array([[0.0, -2.0, 0.0, 30.0], [1.5, 0.0, 0.0, -20.0], [0.0, 0.0, 4.0, 7.0], [0, 0, 0, 1]])


@pytest.fixture
def volume(scene):
    return add_volume(np.zeros((6, 7, 8), np.int16), TURNED)


@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_a_slice_that_was_jumped_to_is_on_screen(scene, volume, axis):
    from ProxyPromptSegmentModule.scene.slice_views import show_slice, slice_count, slice_on_screen

    add_views()
    assert slice_count(volume, axis) == {"k": 6, "j": 7, "i": 8}[axis]
    for index in range(slice_count(volume, axis)):
        show_slice(scene, volume, axis, index)
        assert slice_on_screen(scene, volume, axis) == index


@pytest.mark.parametrize("askew", [False, True])
@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_a_slice_is_named_by_the_offset_that_its_view_shows(scene, axis, askew):
    """Axis-aligned as in the standard views; oblique as in views that are rotated to the volume plane."""
    from mrml_cases import turned
    from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
    from ProxyPromptSegmentModule.scene.nodes import geometry_of
    from ProxyPromptSegmentModule.scene.slice_views import parallel_views, show_slice

    volume = add_volume(np.zeros((6, 7, 8), np.int16), turned(20) @ TURNED if askew else TURNED)
    views = add_views()
    if askew:
        for view in views:
            view.RotateToVolumePlane(volume)
    names = SliceNames.of(geometry_of(volume), axis)
    for index in (0, 3, 5):
        show_slice(scene, volume, axis, index)
        view = parallel_views(scene, volume, axis)[0]
        assert names.offset_mm(index) == pytest.approx(view.GetSliceOffset(), abs=1e-3)
    across = {"Axial": "S", "Sagittal": "L", "Coronal": "A"}
    if not askew:
        assert names.direction == across[view.GetOrientation()]


def test_only_the_views_that_show_these_slices_move(scene, volume):
    from ProxyPromptSegmentModule.scene.slice_views import show_slice

    red, yellow, green = add_views()
    offsets = [node.GetSliceOffset() for node in (yellow, green)]
    show_slice(scene, volume, "k", 5)
    assert red.GetSliceOffset() == pytest.approx(7 + 5 * 4)
    assert [node.GetSliceOffset() for node in (yellow, green)] == offsets
    show_slice(scene, volume, "k", 1, center=True)
    assert [node.GetSliceOffset() for node in (yellow, green)] != offsets


def test_a_parent_transform_moves_the_slices(scene, volume):
    from ProxyPromptSegmentModule.scene.slice_views import show_slice, slice_on_screen

    red, *_others = add_views()
    shift = np.eye(4)
    shift[2, 3] = 100.0
    volume.SetAndObserveTransformNodeID(add_transform(shift).GetID())
    show_slice(scene, volume, "k", 2)
    assert red.GetSliceOffset() == pytest.approx(107 + 2 * 4)
    assert slice_on_screen(scene, volume, "k") == 2


def test_nothing_is_on_screen_beside_the_volume_or_without_views(scene, volume):
    from ProxyPromptSegmentModule.scene.slice_views import crosshair_ras, mouse_ras, slice_on_screen

    assert slice_on_screen(scene, volume, "k") is None
    assert crosshair_ras(scene) is None and mouse_ras(scene) is None
    red, *_others = add_views()
    red.SetSliceOffset(500.0)
    assert slice_on_screen(scene, volume, "k") is None


def test_a_box_meets_the_slices_inside_of_it(scene, volume):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import slices_in_box

    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    assert list(slices_in_box(volume, "k", box)) == []
    middle = TURNED @ [3.5, 3, 2, 1]
    box.SetCenterWorld(middle[:3])
    box.SetRadiusXYZ([1.0, 1.0, 4.5])  # slices 1, 2 and 3 have their middles inside
    assert list(slices_in_box(volume, "k", box)) == [1, 2, 3]
    box.SetRadiusXYZ([50.0, 50.0, 50.0])
    for axis, count in (("k", 6), ("j", 7), ("i", 8)):
        assert list(slices_in_box(volume, axis, box)) == list(range(count))
    box.SetCenterWorld([0.0, 0.0, 999.0])
    assert list(slices_in_box(volume, "k", box)) == []


def test_the_axis_is_the_one_that_the_engine_chooses(scene):
    from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
    from ProxyPromptSegmentLib.support.matching import choose_axes
    from ProxyPromptSegmentModule.scene.nodes import geometry_of, volume_of
    from ProxyPromptSegmentModule.scene.slice_views import slicing_axis

    cubic = np.eye(4)
    sagittal = np.array([[0.0, 0.0, 4.0, 0.0], [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])
    support = add_volume(np.zeros((5, 20, 20), np.int16), sagittal, "support")
    for affine in (cubic, np.diag([1.0, 1.0, 5.0, 1.0]), sagittal):
        target = add_volume(np.zeros((20, 20, 20), np.int16), affine, "target")
        voxels = np.random.default_rng(0).normal(size=(5, 20, 20)).astype(np.float32)
        slicer_voxels = add_volume(voxels, sagittal)
        case, _notes = volume_of(slicer_voxels)
        wanted, _notes = volume_of(add_volume(np.random.default_rng(0).normal(size=(20, 20, 20)), affine))
        mask = np.ones((5, 20, 20), np.uint8)
        marked = Segmentation((Segment("a", mask, (1.0, 0.0, 0.0)),), case.geometry)
        chosen, axes, _notes = choose_axes([(case, marked)], wanted)
        assert slicing_axis(target, "auto", geometry_of(support), "k") == chosen
    assert slicing_axis(target, "j") == "j"


def test_a_volume_is_shown_in_all_views(scene, volume):
    from ProxyPromptSegmentModule.scene.slice_views import show_volume

    add_views()
    show_volume(scene, volume)
    node = scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert node.GetBackgroundVolumeID() == volume.GetID()


def test_contours_of_supports_are_shown_on_their_own_image_only(scene, volume):
    from types import SimpleNamespace

    from ProxyPromptSegmentModule.scene.slice_views import show_case

    add_views()
    target = add_volume(np.zeros((4, 5, 6), np.int16), name="target")
    mask = np.ones((4, 5, 6), np.uint8)
    drawn, result = add_segmentation(volume, name="drawn"), add_segmentation(target, {"a": mask}, name="result")
    users = add_segmentation(target, {"b": mask}, name="the user's own")
    rows = [
        SimpleNamespace(volume_id=volume.GetID(), segmentation_id=drawn.GetID()),
        SimpleNamespace(volume_id=target.GetID(), segmentation_id=result.GetID()),  # a corrected slice as support
        SimpleNamespace(volume_id=None, segmentation_id=None),  # a case of the library
    ]
    shown = lambda: [bool(node.GetDisplayNode().GetVisibility()) for node in (drawn, result, users)]  # noqa: E731
    show_case(scene, target, rows)
    assert shown() == [False, True, True]
    show_case(scene, volume, rows)
    assert shown() == [True, False, True]


def test_views_that_show_the_volume_already_stay_as_they_are(scene, volume):
    from ProxyPromptSegmentModule.scene.slice_views import show_volume

    add_views()
    below = add_volume(np.zeros((4, 5, 6), np.int16), name="below")
    node = scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    node.SetBackgroundVolumeID(below.GetID())
    node.SetForegroundVolumeID(volume.GetID())
    show_volume(scene, volume)
    assert node.GetBackgroundVolumeID() == below.GetID()


def test_a_turned_box_meets_only_what_is_inside_of_it(scene):
    import slicer

    from mrml_cases import turned
    from ProxyPromptSegmentModule.scene.slice_views import fit_box, slices_in_box

    affine = turned(40) @ np.diag([1.5, 1.0, 4.0, 1.0])
    volume = add_volume(np.zeros((12, 60, 40), np.int16), affine, "askew")
    for parent in (None, add_transform(turned(25))):
        volume.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)
        box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
        fit_box(volume, box)
        sizes = sorted(box.GetSize())
        assert np.allclose(sizes, [48.0, 60.0, 60.0]), "the box does not lie along the slices"
        assert list(slices_in_box(volume, "k", box)) == list(range(12))
        size = [4.0 * 3 if abs(one - 48.0) < 1e-6 else one for one in box.GetSize()]
        box.SetSize(size)  # the middle three slices' worth: from the middle of 4 to that of 7
        assert list(slices_in_box(volume, "k", box)) == [4, 5, 6, 7]
        assert list(slices_in_box(volume, "i", box)) == list(range(40))
