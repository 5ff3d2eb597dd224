"""What the user changed in a segment stays the user's: before a run, during it, after it, and when it is undone."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
import slicer.util

from mrml_scene import add_segmentation, segment_array
from mrml_writing import STROKE, a_run, draw, ids_of, random_masks, write_all, writer_for
from ProxyPromptSegmentModule.scene.segment_writer import create_segmentation
from ProxyPromptSegmentModule.scene.slice_prints import OWN, SlicePrints

pytestmark = pytest.mark.usefixtures("scene")


def test_a_slice_that_is_changed_between_draft_and_final_is_not_written_again(volume):
    node = create_segmentation(volume, "result")
    writer = writer_for(node, volume)
    write_all(writer, volume, random_masks(1))
    (found,) = writer.segment_ids.values()
    draw(node, found, volume, 2, STROKE)
    draw(node, found, volume, 4, np.zeros_like(STROKE))
    write_all(writer, volume, random_masks(2))
    writer.sign()
    now = segment_array(node, found, volume)
    np.testing.assert_array_equal(now[2], STROKE)
    assert not now[4].any()
    np.testing.assert_array_equal(now[[0, 1, 3, 5]], random_masks(2)[0][[0, 1, 3, 5]])
    assert writer.kept == {"gland": {2, 4}}


def test_a_correction_during_a_run_is_kept_by_the_next_runs_as_well(volume):
    node = create_segmentation(volume, "result")
    writer = writer_for(node, volume)
    write_all(writer, volume, random_masks(1))
    (found,) = writer.segment_ids.values()
    draw(node, found, volume, 2, STROKE)
    write_all(writer, volume, random_masks(2))
    writer.sign()
    for seed in (3, 4):
        again = a_run(node, volume, seed)
        assert again.segment_ids == {"gland": found} and ids_of(node) == [found]
        now = segment_array(node, found, volume)
        np.testing.assert_array_equal(now[2], STROKE)
        np.testing.assert_array_equal(now[3], random_masks(seed)[0, 3])


def test_a_slice_that_is_drawn_before_the_run_comes_to_it_is_kept(volume):
    node = create_segmentation(volume, "result")
    writer = writer_for(node, volume)
    (found,) = writer.segment_ids.values()
    draw(node, found, volume, 5, STROKE)
    write_all(writer, volume, random_masks(1))
    np.testing.assert_array_equal(segment_array(node, found, volume)[5], STROKE)


def test_a_segment_of_the_user_that_is_drawn_on_during_a_run_into_it_is_kept_there(volume):
    node = add_segmentation(volume, {"mine": random_masks(7)[0]})
    writer = writer_for(node, volume, segment_ids={"gland": "mine"})
    draw(node, "mine", volume, 1, STROKE)
    write_all(writer, volume, random_masks(1))
    now = segment_array(node, "mine", volume)
    np.testing.assert_array_equal(now[1], STROKE)
    np.testing.assert_array_equal(now[2], random_masks(1)[0, 2])


def test_changes_of_other_segments_in_a_shared_layer_do_not_count(volume):
    node = create_segmentation(volume, "result")
    found = a_run(node, volume, 1).segment_ids["gland"]
    mask = (1 - random_masks(1)[0]).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        mask, node, node.GetSegmentation().AddEmptySegment("own", "own"), volume
    )
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    again = a_run(node, volume, 2)
    assert again.segment_ids == {"gland": found} and not again.kept
    np.testing.assert_array_equal(segment_array(node, found, volume), random_masks(2)[0])
    np.testing.assert_array_equal(segment_array(node, "own", volume), mask)


def test_slices_changed_by_hand_are_replaced_only_when_that_was_asked(volume):
    node = create_segmentation(volume, "result")
    found = a_run(node, volume, 1).segment_ids["gland"]
    draw(node, found, volume, 2, STROKE)
    a_run(node, volume, 2, replace_changed=True)
    np.testing.assert_array_equal(segment_array(node, found, volume), random_masks(2)[0])
    assert not a_run(node, volume, 3).kept, "the replaced slices are the run's again"


def test_an_accepted_slice_is_kept_though_it_is_as_the_run_wrote_it(volume):
    node = create_segmentation(volume, "result")
    found = a_run(node, volume, 1).segment_ids["gland"]
    segment = node.GetSegmentation().GetSegment(found)
    prints = SlicePrints.read(segment)
    prints.prints[3] = OWN
    prints.save(segment)
    assert a_run(node, volume, 2).kept == {"gland": {3}}
    np.testing.assert_array_equal(segment_array(node, found, volume)[3], random_masks(1)[0, 3])


def test_undo_takes_back_the_run_and_leaves_later_hand_work(volume):
    node = create_segmentation(volume, "result")
    writer = a_run(node, volume, 1)
    (found,) = writer.segment_ids.values()
    draw(node, found, volume, 2, STROKE)
    assert writer.undo() and writer.left == {"gland": {2}}
    now = segment_array(node, found, volume)
    np.testing.assert_array_equal(now[2], STROKE)
    assert not np.delete(now, 2, axis=0).any()
    again = a_run(node, volume, 3)
    assert again.segment_ids == {"gland": found} and again.kept == {"gland": {2}}
    assert again.undo()
    np.testing.assert_array_equal(segment_array(node, found, volume), now)
    assert again.redo()
    np.testing.assert_array_equal(segment_array(node, found, volume)[2], STROKE)
    np.testing.assert_array_equal(segment_array(node, found, volume)[3], random_masks(3)[0, 3])


def test_redo_leaves_what_was_drawn_after_the_undo(volume):
    node = create_segmentation(volume, "result")
    first = a_run(node, volume, 1)
    (found,) = first.segment_ids.values()
    second = a_run(node, volume, 2)
    assert second.undo()
    np.testing.assert_array_equal(segment_array(node, found, volume), random_masks(1)[0])
    draw(node, found, volume, 4, STROKE)
    assert second.redo()
    now = segment_array(node, found, volume)
    np.testing.assert_array_equal(now[4], STROKE)
    np.testing.assert_array_equal(now[3], random_masks(2)[0, 3])
    assert a_run(node, volume, 3).kept == {"gland": {4}}


def test_an_undone_segment_without_hand_work_is_removed_and_the_next_run_takes_its_name(volume):
    node = create_segmentation(volume, "result")
    writer = a_run(node, volume, 1)
    assert writer.undo() and ids_of(node) == []
    again = a_run(node, volume, 2)
    names = [node.GetSegmentation().GetSegment(one).GetName() for one in ids_of(node)]
    assert names == ["gland"] and not again.notes


def test_a_run_along_another_axis_does_not_cross_corrected_slices(volume):
    node = create_segmentation(volume, "result")
    found = a_run(node, volume, 1).segment_ids["gland"]
    other = writer_for(node, volume, reuse=True, axis="j")
    assert other.segment_ids == {"gland": found}, "nothing was changed by hand"
    draw(node, found, volume, 2, STROKE)
    third = writer_for(node, volume, reuse=True, axis="j")
    assert third.segment_ids["gland"] != found and "already has a segment" in third.notes[0]
