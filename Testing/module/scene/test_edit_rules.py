"""The Segment Editor's masking and overwriting hold for a run, as they hold for Slicer's own editor logic."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer

from mrml_scene import add_segmentation, add_transform, add_volume, segment_array
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.geometry import slice_view
from ProxyPromptSegmentModule.scene import lattices, nodes
from ProxyPromptSegmentModule.scene.segment_writer import SegmentNames, SegmentWriter

SHAPE = (4, 8, 10)
AFFINE = np.array([[0.0, -2, 0, 3], [2, 0, 0, -4], [0, 0, 5, 5], [0, 0, 0, 1]])
SLICE = 2
KINDS = slicer.vtkMRMLSegmentationNode
MODES = {
    "everywhere": KINDS.EditAllowedEverywhere,
    "inside all": KINDS.EditAllowedInsideAllSegments,
    "inside visible": KINDS.EditAllowedInsideVisibleSegments,
    "outside all": KINDS.EditAllowedOutsideAllSegments,
    "outside visible": KINDS.EditAllowedOutsideVisibleSegments,
    "inside one": KINDS.EditAllowedInsideSingleSegment,
}
OVERWRITES = ("OverwriteAllSegments", "OverwriteVisibleSegments", "OverwriteNone")
pytestmark = pytest.mark.usefixtures("scene")


def random_mask(seed, share=0.5):
    return (np.random.default_rng(seed).random(SHAPE) < share).astype(np.uint8)


@pytest.fixture
def volume(scene):
    return add_volume(np.random.default_rng(9).normal(100, 30, SHAPE).astype(np.float32), AFFINE, "MR")


def segmentation_of(volume, shared=True):
    """'left' and 'right' in one layer, 'hidden' over both, 'mine' with old content."""
    left, right = random_mask(1), random_mask(2)
    left[:, :, 6:] = right[:, :, :6] = 0
    node = add_segmentation(
        volume, {"left": left, "right": right, "hidden": random_mask(3), "mine": random_mask(4, 0.2)}
    )
    if shared:
        node.GetSegmentation().CollapseBinaryLabelmaps(False)
    node.GetDisplayNode().SetSegmentVisibility("hidden", False)
    return node


def editor_of(node, volume, mode="everywhere", overwrite="OverwriteNone", single="right", intensities=None):
    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetAndObserveSegmentationNode(node)
    editor.SetAndObserveSourceVolumeNode(volume)
    editor.SetMaskMode(MODES[mode])
    editor.SetMaskSegmentID(single)
    editor.SetOverwriteMode(getattr(editor, overwrite))
    if intensities:
        editor.SetSourceVolumeIntensityMask(True)
        editor.SetSourceVolumeIntensityMaskRange(*intensities)
    return editor


def by_slicer(node, volume, editor, mask):
    """Lets Slicer's own logic add a slice to the segment 'mine'."""
    logic = slicer.vtkSlicerSegmentEditorLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.SetSegmentEditorNode(editor)
    editor.SetSelectedSegmentID("mine")
    modifier = lattices.new_labelmap(lattices.ijk_to_ras(volume), lattices.full_extent(SHAPE))
    lattices.labelmap_array(modifier)[SLICE] = mask[SLICE]
    logic.ModifySegmentByLabelmap(node, "mine", modifier, logic.ModificationModeAdd, False, False)
    return node


def by_writer(node, volume, editor, masks, ids=None, names=("gland",)):
    """Lets the writer replace the slice, once for each of the masks."""
    view = slice_view(nodes.geometry_of(volume), "k")
    writer = SegmentWriter(
        node, volume, view, SegmentNames(objects=names), editor, {"gland": "mine"} if ids is None else ids
    )
    for mask in masks:
        stack = mask if mask.ndim == 4 else mask[None]
        writer.write(SLICE, np.stack([view.take(one)[SLICE] for one in stack]))
    return writer


def state(node, volume):
    return {one: segment_array(node, one, volume) for one in node.GetSegmentation().GetSegmentIDs()}


def assert_equal(one, two):
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)


@pytest.mark.parametrize(("mode", "overwrite"), list(itertools.product(MODES, OVERWRITES)))
def test_an_empty_slice_is_filled_exactly_as_by_slicer_s_editor(volume, mode, overwrite):
    results = []
    for way in (by_slicer, by_writer):
        node = segmentation_of(volume)
        mine = lattices.labelmap_array(node.GetSegmentation().GetSegment("mine").GetRepresentation("Binary labelmap"))
        value = node.GetSegmentation().GetSegment("mine").GetLabelValue()
        mine[SLICE][mine[SLICE] == value] = 0
        editor = editor_of(node, volume, mode, overwrite)
        way(node, volume, editor, random_mask(7) if way is by_slicer else [random_mask(7)])
        results.append(state(node, volume))
    assert_equal(*results)
    assert results[0]["mine"][SLICE].any()


@pytest.mark.parametrize("colored", [False, True])
def test_the_intensity_range_is_that_of_slicer_s_editor(volume, colored):
    if colored:
        array = np.random.default_rng(5).integers(0, 200, (*SHAPE, 3)).astype(np.uint8)
        volume = add_volume(array, AFFINE, "colour")
    results = []
    for way in (by_slicer, by_writer):
        node = add_segmentation(volume, {"mine": np.zeros(SHAPE), "left": random_mask(1)})
        editor = editor_of(node, volume, "outside all", intensities=(90, 130))
        way(node, volume, editor, random_mask(7) if way is by_slicer else [random_mask(7)])
        results.append(state(node, volume))
    assert_equal(*results)
    assert 0 < results[0]["mine"].sum() < random_mask(7)[SLICE].sum()


@pytest.mark.parametrize("kind", ["same", "grid", "transform"])
def test_intensities_of_another_volume_are_brought_onto_the_slice(volume, kind):
    array = np.random.default_rng(5).normal(100, 30, (7, 9, 12)).astype(np.float32)
    finer = AFFINE @ np.diag([0.8, 0.9, 0.6, 1])
    if kind == "same":
        source = add_volume(array[:4, :8, :10], AFFINE, "other")
    elif kind == "grid":
        source = add_volume(array, finer, "other")
    else:
        source = add_volume(
            array, finer, "other", add_transform([[1, 0, 0, 1.5], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]])
        )
    results = []
    for way in (by_slicer, by_writer):
        node = add_segmentation(volume, {"mine": np.zeros(SHAPE)})
        editor = editor_of(node, source, intensities=(80, 120))
        way(node, volume, editor, random_mask(7) if way is by_slicer else [random_mask(7)])
        results.append(state(node, volume))
    assert_equal(*results)
    assert results[0]["mine"].any()


@pytest.mark.parametrize("mode", MODES)
def test_what_the_mask_protects_keeps_its_voxels_and_the_rest_is_replaced(volume, mode):
    node = segmentation_of(volume)
    before = state(node, volume)
    left, right, hidden, mine = (before[one][SLICE] > 0 for one in ("left", "right", "hidden", "mine"))
    free = {
        "everywhere": np.ones_like(left),
        "inside all": left | right | hidden | mine,
        "inside visible": left | right | mine,
        "outside all": ~(left | right | hidden),
        "outside visible": ~(left | right),
        "inside one": right,
    }[mode]
    new = random_mask(7)
    by_writer(node, volume, editor_of(node, volume, mode), [new])
    after = state(node, volume)
    np.testing.assert_array_equal(after["mine"][SLICE], np.where(free, new[SLICE], mine))
    rest = [n for n in range(SHAPE[0]) if n != SLICE]
    np.testing.assert_array_equal(after["mine"][rest], before["mine"][rest])
    for one in ("left", "right", "hidden"):
        np.testing.assert_array_equal(after[one], before[one])


@pytest.mark.parametrize(("mode", "overwrite"), list(itertools.product(MODES, OVERWRITES)))
def test_a_draft_leaves_no_trace_once_the_final_mask_is_written(volume, mode, overwrite):
    results = []
    for masks in ([random_mask(7)], [random_mask(5), random_mask(6), random_mask(7)]):
        node = segmentation_of(volume)
        by_writer(node, volume, editor_of(node, volume, mode, overwrite), masks)
        results.append(state(node, volume))
    assert_equal(*results)


def test_objects_of_a_run_overlap_whatever_is_overwritten(volume):
    node = segmentation_of(volume)
    masks = np.stack([random_mask(7), random_mask(8)])
    editor = editor_of(node, volume, "everywhere", "OverwriteAllSegments")
    writer = by_writer(node, volume, editor, [masks], ids={"gland": "left"}, names=("gland", "cyst"))
    after = state(node, volume)
    np.testing.assert_array_equal(after["left"][SLICE], masks[0, SLICE])
    np.testing.assert_array_equal(after[writer.segment_ids["cyst"]][SLICE], masks[1, SLICE])
    assert not (after["right"][SLICE] & masks.any(axis=0)[SLICE]).any()
    assert writer.undo()
    assert_equal(state(node, volume), state(segmentation_of(volume), volume))


def test_a_segment_that_the_user_adds_meanwhile_is_protected(volume):
    for overwrite in OVERWRITES:
        node = segmentation_of(volume)
        editor = editor_of(node, volume, "outside all", overwrite)
        view = slice_view(nodes.geometry_of(volume), "k")
        writer = SegmentWriter(node, volume, view, SegmentNames(objects=("gland",)), editor)
        node.GetSegmentation().AddEmptySegment("new", "new")
        slicer.util.updateSegmentBinaryLabelmapFromArray(random_mask(8), node, "new", volume)
        everywhere = np.ones((1, *view.take(np.zeros(SHAPE)).shape[1:]), np.uint8)
        writer.write(SLICE, everywhere)
        after = state(node, volume)
        np.testing.assert_array_equal(after["new"], random_mask(8))
        assert not (after["new"] & after[writer.segment_ids["gland"]]).any()


def test_settings_changed_during_a_run_count_for_the_next_one(volume):
    node = segmentation_of(volume)
    editor = editor_of(node, volume)
    view = slice_view(nodes.geometry_of(volume), "k")
    writer = SegmentWriter(node, volume, view, SegmentNames(objects=("gland",)), editor)
    editor.SetMaskMode(MODES["inside one"])
    editor.SetOverwriteMode(editor.OverwriteAllSegments)
    writer.write(SLICE, np.ones((1, *view.take(np.zeros(SHAPE)).shape[1:]), np.uint8))
    after = state(node, volume)
    assert after[writer.segment_ids["gland"]][SLICE].all() and after["left"][SLICE].any()


def test_a_mask_segment_that_is_not_there_is_refused_in_a_sentence(volume):
    node = segmentation_of(volume)
    for single in ("", "gone"):
        with pytest.raises(InputError, match="editable area.*Masking"):
            by_writer(node, volume, editor_of(node, volume, "inside one", single=single), [random_mask(7)], {})
    assert len(node.GetSegmentation().GetSegmentIDs()) == 4
