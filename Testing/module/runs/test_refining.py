"""Refining a run that has ended: only what it wrote changes, hand work stays, and undo takes all of it back."""

from __future__ import annotations

import time
import types

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_scene import segment_array
from mrml_writing import SHAPE, STROKE, draw, random_masks, view_of
from ProxyPromptSegmentLib.inference.results import empty_result
from ProxyPromptSegmentModule.runs.refining import Refined, Refinement, RefineTask, UnsureTask, unsure
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.runs.run import VolumeRun
from ProxyPromptSegmentModule.scene.facts import result_now
from ProxyPromptSegmentModule.scene.new_segments import SegmentNames
from ProxyPromptSegmentModule.states import RunState

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture
def run(volume):
    """A run on all slices that has ended."""
    made = VolumeRun(Request(target=volume, cases=()), lambda task, label: None)
    view = view_of(volume)
    made._segments.open(types.SimpleNamespace(view=view, support=SegmentNames(objects=("gland",))))
    made.masks_before = view.take(random_masks(1)[0])[:, None]
    made._segments.write([(index, masks) for index, masks in enumerate(made.masks_before)])
    made.destination.finish()
    made.state = RunState.FINISHED
    return made


def voxels(run):
    """The result in the view's turn."""
    found = segment_array(run.segmentation, run.segment_ids["gland"], run.request.target)
    return view_of(run.request.target).take(found)


def rewrite(run, masks, before=None):
    before = run.masks_before if before is None else before
    changed = tuple(int(n) for n in range(len(masks)) if (masks[n] != before[n]).any())
    run.rewrite(Refined(Refinement(smooth=True), masks, changed))
    while run.pending:
        run.flush(time.perf_counter() + 1)
    return changed


def other(run, indices=(2, 4)):
    masks = run.masks_before.copy()
    masks[list(indices)] = 1 - masks[list(indices)]
    return masks


def test_refined_slices_are_written_and_count_as_the_run_s(run, volume):
    masks = other(run)
    assert rewrite(run, masks) == (2, 4)
    assert np.array_equal(voxels(run), masks[:, 0]) and run.refined.how.smooth
    now = result_now(run.segmentation, volume)
    assert all(state.changed == () for state in now.states.values())


def test_slices_that_were_changed_by_hand_stay_and_can_still_be_told_apart(run, volume):
    draw(run.segmentation, run.segment_ids["gland"], volume, 2, STROKE)
    drawn = voxels(run)[2].copy()
    masks = other(run)
    rewrite(run, masks)
    assert np.array_equal(voxels(run)[2], drawn) and np.array_equal(voxels(run)[4], masks[4, 0])
    (state,) = result_now(run.segmentation, volume).states.values()
    assert state.changed == (2,)
    rewrite(run, run.masks_before, masks)
    assert np.array_equal(voxels(run)[2], drawn) and np.array_equal(voxels(run)[4], run.masks_before[4, 0])


def test_undo_after_smoothing_takes_the_whole_run_back_and_redo_brings_the_smoothed_one(run, volume):
    masks = other(run)
    rewrite(run, masks)
    assert run.undo()
    assert run.segmentation.GetSegmentation().GetNumberOfSegments() == 0
    assert run.redo()
    assert np.array_equal(voxels(run), masks[:, 0])
    draw(run.segmentation, run.segment_ids["gland"], volume, 3, STROKE)
    drawn = voxels(run)[3].copy()
    assert run.undo()
    left = voxels(run)
    assert np.array_equal(left[3], drawn) and not np.delete(left, 3, axis=0).any()


def test_nothing_is_written_into_an_undone_or_removed_result(run, volume):
    import slicer

    run.undo()
    rewrite(run, other(run))
    assert run.refined is None and run.segmentation.GetSegmentation().GetNumberOfSegments() == 0
    run.redo()
    slicer.mrmlScene.RemoveNode(run.segmentation)
    rewrite(run, other(run))
    assert not run.pending


def test_observers_hear_of_the_last_slice_only(run):
    heard = []
    run.observe(lambda one: heard.append(one.pending))
    masks = 1 - run.masks_before
    run.rewrite(Refined(Refinement(pieces=True), masks, tuple(range(len(masks)))))
    while run.pending:
        run.flush(0.0)  # a few slices in each turn
    assert heard == [False]


def test_a_refinement_that_changes_nothing_is_said_once(run):
    heard = []
    run.observe(heard.append)
    rewrite(run, run.masks_before.copy())
    assert len(heard) == 1


def test_the_task_refines_each_object_and_names_the_slices_that_differ_from_what_is_shown():
    masks = np.zeros((6, 2, 20, 20), np.uint8)
    masks[1:4, :, 5:15, 5:15] = 1
    masks[2, 0, 5:15, 15:20] = 1
    masks[5, 1, 0, 0] = 1
    done = np.ones(6, bool)
    smooth = RefineTask(masks=masks, shown=masks, done=done, how=Refinement(smooth=True))(None, None)
    assert smooth.changed == (2,) and np.array_equal(smooth.masks[:, 1], masks[:, 1])
    both = RefineTask(masks=masks, shown=smooth.masks, done=done, how=Refinement(True, True))(None, None)
    assert both.changed == (5,) and not both.masks[5].any()
    back = RefineTask(masks=masks, shown=both.masks, done=done, how=Refinement())(None, None)
    assert back.changed == (2, 5) and np.array_equal(back.masks, masks)


def test_probabilities_near_the_threshold_are_not_sure():
    values = unsure(np.array([0.0, 0.25, 0.5, 0.75, 1.0]), 0.5)
    assert values.tolist() == [0, 128, 255, 128, 0]
    assert unsure(np.array([0.2, 0.6]), 0.2).tolist() == [255, 128]


def test_the_map_of_a_run_has_the_volume_s_order_of_voxels(volume):
    view = view_of(volume)
    shape = view.take(np.zeros(SHAPE)).shape
    result = empty_result(("gland", "other"), shape[0], shape[1:], across_slices=False)
    result.presence[:] = 1
    result.done[:4] = True
    result.probability[3, 0, 1, 2] = 0.5
    found = UnsureTask(result=result, view=view, shape=SHAPE, threshold=0.5)(None, None)
    wanted = np.zeros(SHAPE, np.uint8)
    view.take(wanted)[3, 1, 2] = 255
    assert np.array_equal(found, wanted)
