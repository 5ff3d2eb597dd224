"""The task that follows frames in time: as the tracker does, and no frame knows what comes later."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.frames import FrameArray
from ProxyPromptSegmentLib.frames.frame_choice import FrameChoice
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.tracking.tracker import Tracker
from ProxyPromptSegmentLib.worker.events import FrameLookedAt, SliceReady
from ProxyPromptSegmentLib.worker.tasks import FramesTask
from worker_doubles import Talk, a_job, an_engine


def clip(count=6):
    """The middle of a phantom as frames in time, turned as the job's slices."""
    job = a_job()
    frames = job.view.take(job.target.array)[2 : 2 + count].copy()
    return frames, job


def frames_task(frames, job, **options):
    source = FrameArray(frames, job.view.spacing_mm)
    return FramesTask(source, job.support, window=job.window, model="sam2-compact", **options)


@pytest.mark.parametrize("mode", ["proxy+bank", "proxy_only"])
def test_frames_are_followed_in_time_as_the_tracker_does(sam2_model, mode):
    segmenter, talk = Segmenter(sam2_model, "cpu", 1), Talk()
    frames, job = clip()
    found = talk.do(frames_task(frames, job, mode=mode), an_engine(segmenter))
    tracker = Tracker(segmenter, mode)
    tracker.start(job.support, job.window, job.view.spacing_mm)
    expected = np.stack([tracker.step(frame).masks() for frame in frames])
    np.testing.assert_array_equal(found.stacked_masks(), expected)
    assert expected.any() and found.is_done.all() and not found.cancelled
    assert [event.index for event in talk.of(SliceReady)] == list(range(6))
    np.testing.assert_array_equal(talk.masks(expected.shape), expected)


def test_no_frame_knows_what_comes_later(sam2_model):
    engine = an_engine(Segmenter(sam2_model, "cpu", 1))
    frames, job = clip()
    before = Talk().do(frames_task(frames, job), engine)
    changed = frames.copy()
    changed[3:] = changed[3:, ::-1]
    after = Talk().do(frames_task(changed, job), engine)
    earlier, later = before.stacked("confidence"), after.stacked("confidence")
    np.testing.assert_array_equal(earlier[:3], later[:3])
    assert (earlier[3:] != later[3:]).any()


def test_a_frame_that_cannot_be_used_is_left_out_and_told(sam2_model):
    engine, talk = an_engine(Segmenter(sam2_model, "cpu", 1)), Talk()
    frames, job = clip()
    frames[2, 5, 5] = np.nan
    found = talk.do(frames_task(frames, job), engine)
    assert sorted(found.done) == [0, 1, 3, 4, 5]
    assert list(found.skipped) == [2] and found.masks(2) is None
    looked_at = {event.index: event for event in talk.of(FrameLookedAt)}
    assert sorted(looked_at) == list(range(6)) and "NaN" in looked_at[2].reason and looked_at[2].found is None
    tracker = Tracker(Segmenter(sam2_model, "cpu", 1))
    tracker.start(job.support, job.window, job.view.spacing_mm)
    for index, frame in enumerate(frames):  # its time passes all the same
        if index == 2:
            tracker.skip()
        else:
            np.testing.assert_array_equal(found.done[index].confidence, tracker.step(frame).confidence())


def test_only_the_wanted_frames_are_done_and_time_passes_in_between(sam2_model):
    engine = an_engine(Segmenter(sam2_model, "cpu", 1))
    frames, job = clip()
    found = Talk().do(frames_task(frames, job, choice=FrameChoice.of((1, 4))), engine)
    assert sorted(found.done) == [1, 4] and found.wanted == 2
    with pytest.raises(UsageError, match="ends after 6 frames"):
        Talk().do(frames_task(frames, job, choice=FrameChoice.of((6,))), engine)


def test_cancelling_between_frames_keeps_those_before(sam2_model):
    engine = an_engine(Segmenter(sam2_model, "cpu", 1))
    talk = Talk(lambda event: talk.cancel.cancel() if isinstance(event, SliceReady) and event.index == 2 else None)
    found = talk.do(frames_task(*clip()), engine)
    assert found.cancelled and sorted(found.done) == [0, 1, 2]


def test_frames_that_are_none_and_modes_that_look_ahead_are_refused(engine, sam2_model):
    frames, job = clip()
    with pytest.raises(InputError, match="shape"):
        frames_task(frames[0], job)
    with pytest.raises(InputError, match="none of the 6 frames of the sequence can be used"):
        Talk().do(frames_task(np.full_like(frames, np.nan), job), an_engine(Segmenter(sam2_model, "cpu", 1)))
    with pytest.raises(UsageError, match="bank_only"):
        Talk().do(frames_task(frames, job, mode="bank_only"), engine)
