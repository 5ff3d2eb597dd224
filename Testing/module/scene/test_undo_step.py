"""A run in a real MRML scene is one step back; it survives what the user deletes, and the way to a file."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
import slicer.util

from mrml_scene import add_segmentation, add_transform, segment_array
from mrml_writing import (
    PROSTATE,
    SHAPE,
    TURNED,
    everything,
    ids_of,
    random_masks,
    view_of,
    write_all,
    writer_for,
)
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentModule.scene import nodes
from ProxyPromptSegmentModule.scene.masks import segmentation_of
from ProxyPromptSegmentModule.scene.segment_writer import SegmentNames, SegmentWriter, create_segmentation
from ProxyPromptSegmentModule.scene.terminology import terminology_from_text

pytestmark = pytest.mark.usefixtures("scene")


# --- undo ---------------------------------------------------------------------------------------------------


def test_undo_restores_everything_bit_for_bit_and_redo_brings_it_back(volume):
    left, right = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    left[:, :, :5], right[:, :, 5:] = random_masks(1)[0][:, :, :5], random_masks(2)[0][:, :, 5:]
    node = add_segmentation(volume, {"left": left, "right": right})
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetOverwriteMode(editor.OverwriteAllSegments)
    before = everything(node, volume)
    writer = writer_for(node, volume, ["a", "new"], segment_ids={"a": "left"}, editor_node=editor)
    assert writer.can_undo
    for seed in (3, 4):  # a draft and the final masks
        write_all(writer, volume, random_masks(seed, 2))
    after = everything(node, volume)
    assert len(after) == 3 and after[1] != before[1]  # 'right' has lost voxels
    for _ in range(2):
        assert writer.undo() and everything(node, volume) == before and not writer.undo()
        assert writer.redo() and everything(node, volume) == after and not writer.redo()


def test_undo_keeps_what_the_user_drew_meanwhile(volume):
    node = add_segmentation(volume, {"mine": random_masks(1)[0], "user": random_masks(2)[0]})
    writer = writer_for(node, volume, ["gland"], segment_ids={"gland": "mine"})
    write_all(writer, volume, random_masks(3), indices=[2, 3])
    drawn = random_masks(4)[0]
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, "user", volume)
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, node.GetSegmentation().AddEmptySegment("x"), volume)
    write_all(writer, volume, random_masks(3), indices=[4])
    np.testing.assert_array_equal(segment_array(node, "user", volume), drawn)
    assert writer.undo()
    np.testing.assert_array_equal(segment_array(node, "mine", volume), random_masks(1)[0])
    for one in ("user", "x"):
        np.testing.assert_array_equal(segment_array(node, one, volume), drawn)


def test_redo_puts_segments_back_where_they_were_in_the_list(volume):
    node = create_segmentation(volume, "seg")
    writer = writer_for(node, volume, "ab")
    node.GetSegmentation().AddEmptySegment("user", "user")
    order = ids_of(node)
    node.GetSegmentation().GetSegment(order[0]).SetName("renamed")
    assert writer.undo() and ids_of(node) == ["user"]
    node.GetSegmentation().AddEmptySegment("later", "later")
    assert writer.redo() and ids_of(node) == [*order, "later"]
    assert node.GetSegmentation().GetSegment(order[0]).GetName() == "renamed"


def test_nothing_is_written_between_undo_and_redo(volume):
    node = create_segmentation(volume, "seg")
    writer = writer_for(node, volume)
    write_all(writer, volume, random_masks(1), indices=[0])
    writer.undo()
    write_all(writer, volume, random_masks(2), indices=[1])
    assert ids_of(node) == []
    assert writer.redo()
    found = segment_array(node, writer.segment_ids["gland"], volume)
    np.testing.assert_array_equal(found[0], random_masks(1)[0, 0])
    assert not found[1:].any()


def test_the_segment_editor_s_own_undo_takes_the_run_back_in_one_step(volume):
    node = add_segmentation(volume, {"mine": random_masks(1)[0]})
    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetAndObserveSegmentationNode(node)
    logic = slicer.vtkSlicerSegmentEditorLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.SetSegmentEditorNode(editor)
    before = everything(node, volume)
    writer = writer_for(node, volume, ["gland", "new"], segment_ids={"gland": "mine"}, editor_logic=logic)
    write_all(writer, volume, random_masks(3, 2))
    after = everything(node, volume)
    assert logic.CanUndo()
    logic.Undo()
    assert everything(node, volume) == before
    logic.Redo()
    assert everything(node, volume) == after
    write_all(writer, volume, random_masks(5, 2), indices=[1])  # the labelmaps are other objects now
    np.testing.assert_array_equal(segment_array(node, "mine", volume)[1], random_masks(5, 2)[0, 1])
    assert writer.undo() and everything(node, volume) == before


# --- nodes and segments that go away ------------------------------------------------------------------------


def test_a_deleted_node_ends_the_writing_quietly(volume):
    for gone in (0, 1):
        node = create_segmentation(volume, "seg")
        pair = (node, volume)
        writer = writer_for(node, volume)
        assert writer.valid
        slicer.mrmlScene.RemoveNode(pair[gone])
        assert not writer.valid and not writer.can_undo and not writer.undo()
        writer.write(0, np.ones((1, *reversed(SHAPE[1:])), np.uint8))


def test_closing_the_scene_and_closing_the_writer_are_quiet(volume):
    writer = writer_for(create_segmentation(volume, "seg"), volume)
    write_all(writer, volume, random_masks(), indices=[0])
    slicer.mrmlScene.Clear(False)
    assert not writer.valid and not writer.undo()
    writer.close()
    writer.close()
    assert not writer.valid and not writer.redo()


def test_a_segment_deleted_by_the_user_is_skipped(volume):
    node, masks = create_segmentation(volume, "seg"), random_masks(1, 2)
    writer = writer_for(node, volume, "ab")
    write_all(writer, volume, masks, indices=[0])
    node.GetSegmentation().RemoveSegment(writer.segment_ids["a"])
    write_all(writer, volume, masks, indices=[1])
    assert ids_of(node) == [writer.segment_ids["b"]]
    np.testing.assert_array_equal(segment_array(node, writer.segment_ids["b"], volume)[:2], masks[1, :2])
    assert writer.undo() and ids_of(node) == []
    assert writer.redo() and ids_of(node) == [writer.segment_ids["b"]]


# --- saved and loaded ---------------------------------------------------------------------------------------


def test_a_saved_seg_nrrd_has_the_same_voxels_names_and_terminology(volume, tmp_path):
    node, masks = create_segmentation(volume, "seg"), random_masks(1, 3)
    support = SegmentNames(
        objects=("a", "b", "ü"),
        colors=((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        terminologies=(terminology_from_text(PROSTATE), None, None),
    )
    writer = SegmentWriter(node, volume, view_of(volume), support)
    write_all(writer, volume, masks)
    writer.sign()
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "x.seg.nrrd"))
    assert storage.WriteData(node)
    again = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert storage.ReadData(again) and ids_of(again) == ids_of(node)
    for segment_id, mask in zip(writer.segment_ids.values(), masks, strict=True):
        np.testing.assert_array_equal(segment_array(again, segment_id, volume), mask)
    file = read_segmentation(tmp_path / "x.seg.nrrd", nodes.geometry_of(volume))
    np.testing.assert_array_equal(np.stack([one.mask for one in file.segments]), masks)
    assert file.names == ["a", "b", "ü"] and file.segments[0].terminology == terminology_from_text(PROSTATE)
    # and a run may go on in what was loaded, where all segments may share a layer
    rerun = writer_for(again, volume, ["a"], segment_ids={"a": writer.segment_ids["a"]})
    write_all(rerun, volume, random_masks(9), indices=[2])
    np.testing.assert_array_equal(segment_array(again, writer.segment_ids["a"], volume)[2], random_masks(9)[0, 2])
    np.testing.assert_array_equal(segment_array(again, writer.segment_ids["b"], volume), masks[1])


def test_a_saved_scene_bundle_has_the_same_voxels_and_place(volume, tmp_path):
    volume.SetAndObserveTransformNodeID(add_transform(TURNED).GetID())
    node, masks = create_segmentation(volume, "seg"), random_masks(1, 2)
    writer = writer_for(node, volume, "ab")
    write_all(writer, volume, masks)
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "x.mrb"), None)
    slicer.mrmlScene.Clear(False)
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "x.mrb"), True)
    volume, node = slicer.util.getNode("MR"), slicer.util.getNode("seg")
    found, notes = segmentation_of(node, volume)
    assert notes == () and found.names == ["a", "b"]
    np.testing.assert_array_equal(np.stack([one.mask for one in found.segments]), masks)
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume


def test_a_slice_that_is_restored_is_as_before_the_run_and_neither_written_nor_undone_since(volume):
    node = add_segmentation(volume, {"mine": random_masks(1)[0]})
    writer = writer_for(node, volume, ["gland"], segment_ids={"gland": "mine"})
    before = segment_array(node, "mine", volume)
    write_all(writer, volume, random_masks(3), indices=[1, 2, 3])
    writer.restore([2])
    now = segment_array(node, "mine", volume)
    assert np.array_equal(now[2], before[2]) and not np.array_equal(now[1], before[1])
    writer.sign()
    drawn = segment_array(node, "mine", volume)
    drawn[1] = 1  # by the user
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, "mine", volume)
    writer.restore([1, 3])
    now = segment_array(node, "mine", volume)
    assert now[1].all() and np.array_equal(now[3], before[3])
    assert writer.undo() or not writer.can_undo
    assert segment_array(node, "mine", volume)[1].all()
