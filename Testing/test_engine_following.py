"""Following on the worker thread: a volume both ways, frames strictly in time."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from worker_doubles import Talk, a_job, an_engine

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.events import Said, SliceReady
from ProxyPromptSegmentLib.segmenter import Segmenter
from ProxyPromptSegmentLib.tasks import FramesTask, SegmentTask
from ProxyPromptSegmentLib.tracker import Tracker

DONE = 0.5

pytest_plugins = ["engine_fixtures"]


def test_following_gives_what_track_volume_gives(sam2_model, monkeypatch):
    from ProxyPromptSegmentLib.track_volume import track_volume

    segmenter, job, talk = Segmenter(sam2_model, "cpu", 1), a_job(), Talk()
    engine = an_engine(segmenter)
    found = talk.do(SegmentTask(job, model="sam2-compact", follow=True), engine)
    images = job.view.take(job.target.array)
    expected = track_volume(Tracker(segmenter), images, job.support, job.window, job.view.spacing_mm, job.slices)
    np.testing.assert_array_equal(found.outcome.masks, expected.masks())
    np.testing.assert_array_equal(talk.masks(found.outcome.masks.shape), expected.masks())
    assert found.outcome.masks.any()
    calls, encode = [], sam2_model.backbone.encode
    monkeypatch.setattr(sam2_model.backbone, "encode", lambda *args: (calls.append(1), encode(*args))[1])
    again = Talk().do(SegmentTask(job, model="sam2-compact", follow=True), engine)
    assert calls == [] and again.embedded == 0 < found.embedded


def test_following_by_a_model_without_memory_is_refused(engine):
    with pytest.raises(UsageError, match="no memory to follow"):
        Talk().do(SegmentTask(a_job(), follow=True), engine)


def clip(count=6):
    """The middle of a phantom as frames in time, turned as the job's slices."""
    job = a_job()
    frames = job.view.take(job.target.array)[2 : 2 + count].copy()
    return frames, job


def frames_task(frames, job, **options):
    return FramesTask(frames, job.support, job.window, job.view.spacing_mm, "sam2-compact", **options)


@pytest.mark.parametrize("mode", ["proxy+bank", "proxy_only"])
def test_frames_are_followed_in_time_as_the_tracker_does(sam2_model, mode):
    segmenter, talk = Segmenter(sam2_model, "cpu", 1), Talk()
    frames, job = clip()
    found = talk.do(frames_task(frames, job, mode=mode), an_engine(segmenter))
    tracker = Tracker(segmenter, mode)
    tracker.start(job.support, job.window, job.view.spacing_mm)
    expected = np.stack([tracker.step(frame).masks() for frame in frames])
    np.testing.assert_array_equal(found.masks, expected)
    assert expected.any() and found.done.all() and not found.cancelled
    assert [event.index for event in talk.of(SliceReady)] == list(range(6))
    np.testing.assert_array_equal(talk.masks(expected.shape), expected)


def test_no_frame_knows_what_comes_later(sam2_model):
    engine = an_engine(Segmenter(sam2_model, "cpu", 1))
    frames, job = clip()
    before = Talk().do(frames_task(frames, job), engine)
    changed = frames.copy()
    changed[3:] = changed[3:, ::-1]
    after = Talk().do(frames_task(changed, job), engine)
    np.testing.assert_array_equal(before.confidence[:3], after.confidence[:3])
    assert (before.confidence[3:] != after.confidence[3:]).any()


def test_a_frame_that_cannot_be_used_is_left_out_and_told(sam2_model):
    engine, talk = an_engine(Segmenter(sam2_model, "cpu", 1)), Talk()
    frames, job = clip()
    frames[2, 5, 5] = np.nan
    found = talk.do(frames_task(frames, job), engine)
    assert found.done.tolist() == [True, True, False, True, True, True]
    assert list(found.skipped) == [2] and not found.masks[2].any()
    assert any("Frame 2 was left out" in event.text for event in talk.of(Said))
    tracker = Tracker(Segmenter(sam2_model, "cpu", 1))
    tracker.start(job.support, job.window, job.view.spacing_mm)
    for index, frame in enumerate(frames):  # its time passes all the same
        if index == 2:
            tracker.skip()
        else:
            np.testing.assert_array_equal(found.confidence[index], tracker.step(frame).confidence())
    assert any("Frame 2 was left out" in note for note in found.notes)


def test_only_the_wanted_frames_are_done_and_time_passes_in_between(sam2_model):
    engine = an_engine(Segmenter(sam2_model, "cpu", 1))
    frames, job = clip()
    found = Talk().do(frames_task(frames, job, wanted=(1, 4)), engine)
    assert np.flatnonzero(found.done).tolist() == [1, 4]
    with pytest.raises(UsageError, match="no frame 6; its frames are 0 to 5"):
        Talk().do(frames_task(frames, job, wanted=(6,)), engine)


def test_cancelling_between_frames_keeps_those_before(sam2_model):
    engine = an_engine(Segmenter(sam2_model, "cpu", 1))
    talk = Talk(lambda event: talk.cancel.cancel() if isinstance(event, SliceReady) and event.index == 2 else None)
    found = talk.do(frames_task(*clip()), engine)
    assert found.cancelled and np.flatnonzero(found.done).tolist() == [0, 1, 2]


def test_frames_that_are_none_and_modes_that_look_ahead_are_refused(engine):
    frames, job = clip()
    with pytest.raises(InputError, match="shape"):
        Talk().do(frames_task(frames[0], job), engine)
    with pytest.raises(UsageError, match="bank_only"):
        Talk().do(frames_task(frames, job, mode="bank_only"), engine)
