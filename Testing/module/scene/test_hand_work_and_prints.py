"""What a run may overwrite once is not its own for good, and an accepted slice stays accepted whatever runs do."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_scene import add_segmentation, segment_array
from mrml_writing import STROKE, a_run, draw, ids_of, random_masks, write_all, writer_for
from ProxyPromptSegmentLib.reports.doubts import Doubt
from ProxyPromptSegmentModule.scene.facts import Facts, result_now, write_facts
from ProxyPromptSegmentModule.scene.segment_state import accept_slice, state_of
from ProxyPromptSegmentModule.scene.segment_writer import create_segmentation
from ProxyPromptSegmentModule.scene.slice_prints import SlicePrints

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture
def node(result):
    return result


def gland(node, volume):
    (found,) = ids_of(node)
    return segment_array(node, found, volume)


def prints_of(node):
    (found,) = ids_of(node)
    return SlicePrints.read(node.GetSegmentation().GetSegment(found))


@pytest.mark.parametrize("indices", [[1, 2], [], [0, 1, 2, 3]])
def test_slices_that_a_replacing_run_did_not_reach_stay_the_users(node, volume, indices):
    for index in (2, 5):
        draw(node, ids_of(node)[0], volume, index, STROKE)
    a_run(node, volume, 2, indices=indices, replace_changed=True)
    a_run(node, volume, 3)  # nobody was asked this time
    np.testing.assert_array_equal(gland(node, volume)[5], STROKE)
    assert np.array_equal(gland(node, volume)[2], STROKE) == (2 not in indices)


def test_slices_that_undo_brings_back_are_the_users_again(node, volume):
    draw(node, ids_of(node)[0], volume, 5, STROKE)
    before = prints_of(node)
    replacing = a_run(node, volume, 2, replace_changed=True)
    assert replacing.undo() and prints_of(node) == before
    assert replacing.redo() and replacing.undo()
    assert a_run(node, volume, 3).kept == {"gland": {5}}
    np.testing.assert_array_equal(gland(node, volume)[5], STROKE)


def test_a_segment_that_was_chosen_once_keeps_what_the_run_did_not_write(volume):
    node = add_segmentation(volume, {"gland": random_masks(7)[0]})
    before = gland(node, volume).copy()
    chosen = writer_for(node, volume, segment_ids={"gland": "gland"})
    write_all(chosen, volume, random_masks(1), indices=[2])
    chosen.sign()
    assert a_run(node, volume, 3).kept == {"gland": {0, 1, 3, 4, 5}}
    np.testing.assert_array_equal(np.delete(gland(node, volume), 2, 0), np.delete(before, 2, 0))


def test_undo_of_a_run_into_a_chosen_segment_leaves_no_prints(volume):
    node = add_segmentation(volume, {"gland": random_masks(7)[0]})
    chosen = writer_for(node, volume, segment_ids={"gland": "gland"})
    write_all(chosen, volume, random_masks(1))
    chosen.sign()
    assert chosen.undo() and prints_of(node) is None
    np.testing.assert_array_equal(gland(node, volume), random_masks(7)[0])


def test_a_slice_accepted_while_a_run_writes_is_kept(node, volume):
    writer = writer_for(node, volume, reuse=True)
    accept_slice(node, ids_of(node)[0], "k", 4)
    write_all(writer, volume, random_masks(2), indices=[0, 1])
    accept_slice(node, ids_of(node)[0], "k", 1)  # its draft is accepted
    write_all(writer, volume, random_masks(3))
    writer.sign()
    assert writer.kept == {"gland": {1, 4}}
    np.testing.assert_array_equal(gland(node, volume)[[1, 4]], [random_masks(2)[0, 1], random_masks(1)[0, 4]])
    assert a_run(node, volume, 5).kept == {"gland": {1, 4}}


def test_undo_leaves_a_slice_that_was_accepted_since(volume):
    node = create_segmentation(volume, "result")
    writer = a_run(node, volume, 1)
    accept_slice(node, ids_of(node)[0], "k", 4)
    assert writer.undo() and writer.left == {"gland": {4}}
    now = gland(node, volume)
    np.testing.assert_array_equal(now[4], random_masks(1)[0, 4])
    assert not np.delete(now, 4, 0).any()


def test_a_slice_accepted_between_undo_and_redo_or_beside_the_run_stays_accepted(node, volume):
    second = a_run(node, volume, 2, indices=[1, 2])
    accept_slice(node, ids_of(node)[0], "k", 4)
    assert second.undo()
    accept_slice(node, ids_of(node)[0], "k", 1)
    assert second.redo()
    np.testing.assert_array_equal(gland(node, volume)[[1, 2]], [random_masks(1)[0, 1], random_masks(2)[0, 2]])
    assert a_run(node, volume, 3).kept == {"gland": {1, 4}}


def test_an_accepted_slice_that_was_replaced_on_request_is_accepted_again_after_an_undo(node, volume):
    accept_slice(node, ids_of(node)[0], "k", 4)
    replacing = a_run(node, volume, 2, replace_changed=True)
    assert not replacing.kept and replacing.undo() and a_run(node, volume, 3).undo()
    np.testing.assert_array_equal(gland(node, volume)[4], random_masks(1)[0, 4])
    assert replacing.redo()
    np.testing.assert_array_equal(gland(node, volume)[4], random_masks(2)[0, 4])
    assert not a_run(node, volume, 4).kept, "the run has replaced it"


def test_slices_of_a_run_in_progress_do_not_count_as_changed_by_hand(volume):
    node = create_segmentation(volume, "result")
    writer = writer_for(node, volume)
    write_all(writer, volume, random_masks(1), indices=[2, 3])
    draw(node, ids_of(node)[0], volume, 3, STROKE)
    assert state_of(node, ids_of(node)[0], volume, "k").changed == (3,)


def test_a_run_along_another_axis_keeps_the_slices_that_it_does_not_write_its_own(node, volume):
    other = writer_for(node, volume, reuse=True, axis="j")
    write_all(other, volume, random_masks(2), axis="j", indices=[0, 1])
    other.sign()
    assert state_of(node, ids_of(node)[0], volume, "j").changed == ()
    assert other.undo() and prints_of(node).axis == "k"
    np.testing.assert_array_equal(gland(node, volume), random_masks(1)[0])
    assert state_of(node, ids_of(node)[0], volume, "k").changed == ()


def test_slices_of_a_result_are_those_along_the_axis_of_the_last_run(node, volume):
    draw(node, ids_of(node)[0], volume, 2, STROKE)
    other = writer_for(node, volume, axis="j", reuse=True)
    write_all(other, volume, random_masks(2), axis="j")
    other.sign()
    first, second = ids_of(node)
    doubt = Doubt(7, "gland", 0.5, "unlike its neighbours", 0.5, 0)
    write_facts(node, volume, Facts(axis="j", doubts={second: (doubt,)}))
    now = result_now(node, volume)
    assert now.axis == "j" and now.doubts == (doubt,)
    assert list(now.states) == [first, second] and list(now.along) == [second]
