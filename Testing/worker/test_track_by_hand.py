"""Prompts by hand on a slice or frame: SAM 2's memory carries them on, with a support and without one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.frames import FrameArray
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand, VoxelBox, VoxelPoint
from ProxyPromptSegmentLib.inference.job_by_hand import plan_by_hand, plan_tracked_by_hand, with_hand
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.support.asked import AskedObjects
from ProxyPromptSegmentLib.tracking.volume import track_volume
from ProxyPromptSegmentLib.worker.tasks import FramesTask, LiveTask, SegmentTask
from worker_doubles import Talk, a_job, an_engine, phantom

MIDDLE = 4


@pytest.fixture
def engine(sam2_model):
    return an_engine(Segmenter(sam2_model, "cpu", 1))


def organ():
    return phantom(12)[1].segments[0].mask


def a_box(index=MIDDLE, name="gland"):
    rows, columns = np.nonzero(organ()[index])
    low = (float(columns.min()), float(rows.min()), float(index))
    return VoxelBox(low, (float(columns.max()), float(rows.max()), float(index)), name)


def tracked(said, slices=None):
    return SegmentTask(plan_tracked_by_hand(phantom(12)[0], said, slices=slices), follow=True, model="sam2-compact")


def test_a_box_on_one_slice_is_carried_to_its_neighbours_in_both_directions(engine):
    found = Talk().do(tracked(ByHand(boxes=(a_box(),))), engine)
    assert found.result.done.all() and found.objects == ("gland",)
    alone = Talk().do(LiveTask(plan_by_hand(phantom(12)[0], ByHand(boxes=(a_box(),))), MIDDLE), engine)
    np.testing.assert_array_equal(found.masks[MIDDLE], alone.masks)
    assert found.result.by_hand[MIDDLE, 0] and found.result.by_hand.sum() == 1
    drawn = [index for index in (MIDDLE - 1, MIDDLE + 1) if found.masks[index, 0].any()]
    assert drawn == [MIDDLE - 1, MIDDLE + 1]
    assert max(dice(organ()[index], found.segmentation.segments[0].mask[index]) for index in drawn) > 0.3


def test_a_later_correction_changes_the_slices_after_it_and_none_before(engine):
    i, j, _ = (round(one) for one in np.argwhere(organ()[6].T).mean(axis=0).tolist() + [0])
    plain = Talk().do(tracked(ByHand(boxes=(a_box(),))), engine)
    said = ByHand((VoxelPoint((float(i), float(j), 6.0), False, "gland"),), (a_box(),))
    corrected = Talk().do(tracked(said), engine)
    np.testing.assert_array_equal(corrected.result.probability[:6], plain.result.probability[:6])
    assert (corrected.result.probability[7:] != plain.result.probability[7:]).any()


def test_a_correction_of_a_support_s_tracking_is_remembered(engine):
    job = a_job(objects=("prostate", "front"))
    said = ByHand((VoxelPoint((2.0, 2.0, 5.0), True, "front"),))
    plain = Talk().do(SegmentTask(job, follow=True, model="sam2-compact"), engine)
    corrected = Talk().do(SegmentTask(with_hand(job, said), follow=True, model="sam2-compact"), engine)
    assert corrected.result.by_hand[5].tolist() == [False, True]
    assert corrected.masks[5, 1, 2, 2] == 1 != plain.masks[5, 1, 2, 2]
    assert (corrected.result.probability[6, 1] != plain.result.probability[6, 1]).any()


def frames_task(said, count=6, support=None, **options):
    job = a_job()
    frames = job.view.take(job.target.array)[2 : 2 + count].copy()
    asked = support or AskedObjects(said.objects, by_hand=True)
    prompts = said.on_slices(job.view, (count, *phantom(12)[0].array.shape[1:]), asked.objects)
    source = FrameArray(frames, job.view.spacing_mm)
    return FramesTask(source, asked, window=job.window, model="sam2-compact", by_hand=prompts, **options)


def test_a_clip_begins_with_the_first_frame_that_is_prompted(engine):
    box = replace(a_box(), first=(*a_box().first[:2], 2.0), last=(*a_box().last[:2], 2.0))
    found = Talk().do(frames_task(ByHand(boxes=(box,))), engine)
    assert sorted(found.skipped) == [0, 1] and "nothing has been prompted by hand" in found.skipped[0]
    assert sorted(found.done) == [2, 3, 4, 5] and not found.cancelled
    assert found.masks(2).any() and found.masks(3).any()


def test_a_click_on_a_frame_changes_it_and_later_ones_of_a_clip_with_a_support(engine):
    said = ByHand((VoxelPoint((2.0, 2.0, 3.0)),))
    job = a_job()
    plain = Talk().do(frames_task(ByHand(), support=job.support), engine)
    found = Talk().do(frames_task(said, support=job.support), engine)
    for index in (0, 1, 2):
        np.testing.assert_array_equal(found.masks(index), plain.masks(index))
    assert (found.masks(3) != plain.masks(3)).any()
    assert (found.stacked("confidence")[4:] != plain.stacked("confidence")[4:]).any()


def test_tracking_needs_a_support_or_a_prompt(engine, sam2_model):
    from ProxyPromptSegmentLib.tracking.choices import TrackingMode
    from ProxyPromptSegmentLib.tracking.tracker import Tracker

    tracker = Tracker(Segmenter(sam2_model, "cpu", 1), TrackingMode.BANK_ONLY)
    with pytest.raises(UsageError, match="without a support something must be prompted by hand"):
        track_volume(tracker, np.eye(8, dtype=np.float32)[None], None)
