"""Tasks on a volume: slices stream, and yet end as the pipeline makes them; one slice alone, and why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from plain_run import run
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.tracking.tracker import Tracker
from ProxyPromptSegmentLib.worker.events import Finished, Progressed, SliceReady, StageStarted
from ProxyPromptSegmentLib.worker.streaming import Stream, outwards
from ProxyPromptSegmentLib.worker.tasks import WhyTask
from ProxyPromptSegmentLib.worker.thread import Worker
from worker_doubles import SIZE, Talk, a_job, an_engine, whole_slice, whole_slices


def indices(talk):
    return [event.index for event in talk.of(SliceReady) if not event.final]


# --- a volume -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "first"),
    [
        (1, None),
        pytest.param(1, 5, marks=pytest.mark.slow),
        pytest.param(1, 99, marks=pytest.mark.slow),
        pytest.param(4, None, marks=pytest.mark.slow),
        (4, 5),
    ],
)
def test_masks_are_those_of_the_pipeline_whatever_comes_first(model, batch, first):
    segmenter = Segmenter(model, "cpu", batch)
    job, talk = a_job(objects=("prostate", "front")), Talk()
    expected = run(segmenter, job)
    found = talk.do(whole_slices(job, first=first), an_engine(segmenter))
    np.testing.assert_array_equal(found.masks, expected.masks)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-6)
    assert 0 < expected.masks[:, 1].sum() < expected.masks[:, 0].sum()
    for own, other in zip(found.segmentation.segments, expected.segmentation.segments, strict=True):
        np.testing.assert_array_equal(own.mask, other.mask)
    np.testing.assert_array_equal(talk.masks(found.masks.shape), expected.masks)


def test_a_slice_comes_as_soon_as_it_is_known_and_again_only_where_it_changed(engine):
    job, talk = a_job(), Talk()
    final = talk.do(whole_slices(job), engine).masks
    assert indices(talk) == list(range(SIZE[0]))
    known = {event.index: event.masks for event in talk.of(SliceReady) if not event.final}
    changed = [index for index, masks in known.items() if (masks != final[index]).any()]
    assert changed  # or this test says nothing
    assert [event.index for event in talk.of(SliceReady) if event.final] == changed
    # before the next slice is embedded, not all at the end
    order = [type(event) for event in talk.events if isinstance(event, SliceReady | Progressed)]
    assert order.index(Progressed) < len(order) - 5


def test_the_slice_on_screen_comes_first_and_then_its_neighbours_both_ways(engine):
    job, talk = a_job(slices=range(1, 9)), Talk()
    talk.do(whole_slices(job, first=5), engine)
    assert indices(talk) == [5, 4, 6, 3, 7, 2, 8, 1]


def test_batches_stay_together_in_every_order():
    assert outwards(range(10), 4, None) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert outwards(range(10), 4, 9) == [[8, 9], [4, 5, 6, 7], [0, 1, 2, 3]]
    assert outwards([3, 3, 1], 1, 0) == [[1], [3]]
    assert outwards([], 4, 3) == []


def test_a_slice_that_loses_its_mask_is_sent_again():
    sent = []
    stream = Stream(lambda *event: sent.append(event))
    masks = np.ones((3, 1, 2, 2), np.uint8)
    for index in (0, 1):
        stream.now(index, masks[index], np.ones(1, np.float32))
    final = masks.copy()
    final[1] = 0
    stream.end([0, 2], final, np.ones((3, 1), np.float32))
    assert [(index, int(array.sum()), last) for index, array, _, last in sent[2:]] == [(1, 0, True), (2, 4, True)]


def test_cancelling_keeps_what_is_done_and_its_masks_are_final(segmenter, engine):
    job = a_job()
    talk = Talk(lambda event: talk.cancel.cancel() if isinstance(event, SliceReady) and event.index == 6 else None)
    found = talk.do(whole_slices(job, first=4), engine)
    done = np.flatnonzero(found.result.done).tolist()
    assert found.cancelled
    assert done == [2, 3, 4, 5, 6] and found.slices == 5
    expected = segmenter.segment(job.view.take(job.target.array), job.support, job.window, slices=done).masks()
    np.testing.assert_array_equal(found.masks, expected)
    np.testing.assert_array_equal(talk.masks(expected.shape), expected)


def test_cancelling_before_the_support_is_prepared_gives_an_empty_outcome(engine):
    talk = Talk(lambda event: talk.cancel.cancel() if isinstance(event, StageStarted) else None)
    found = talk.do(whole_slices(a_job()), engine)
    assert found.cancelled and found.slices == 0
    assert not found.masks.any() and not talk.of(SliceReady)


def test_the_outcome_says_what_computed_it(engine):
    job = a_job()
    found = Talk().do(whole_slices(job), engine)
    assert (found.model.name, found.device, found.rungs, found.half) == ("sam-compact", "cpu", [], False)
    assert (found.slices, found.embedded, found.pairs, found.objects) == (10, 10, 3, ("prostate",))
    assert set(found.seconds) == {"model", "support", "segmentation"}
    assert min(found.seconds.values()) >= 0


def test_the_notes_of_the_job_are_told(engine):
    job = replace(a_job(), notes=(Note("the support is older"),))
    assert Talk().do(whole_slices(job), engine).notes[0] == Note("the support is older")


def test_no_array_of_the_job_is_changed(engine):
    job = a_job()
    before = [job.target.array.copy(), *(pair.image.copy() for pair in job.support.pairs)]
    for task in (whole_slices(job), whole_slice(job, 5)):
        Talk().do(task, engine)
    for old, new in zip(before, [job.target.array, *(pair.image for pair in job.support.pairs)], strict=True):
        np.testing.assert_array_equal(old, new)


def test_progress_tells_each_stage(engine):
    talk = Talk()
    talk.do(whole_slices(a_job()), engine)
    assert [event.what for event in talk.of(StageStarted)] == [
        "loading the model", "preparing the support", "segmenting"
    ]  # fmt: skip
    last = talk.of(Progressed)[-1]
    assert (last.what, last.done, last.total) == ("segmenting", 10, 10)


def test_on_the_worker_thread_it_is_the_same(segmenter):
    worker = Worker(lambda: an_engine(segmenter))
    job = a_job()
    assert worker.submit(whole_slices(job)).wait(60)
    events = worker.drain()
    assert isinstance(events[-1], Finished)
    np.testing.assert_array_equal(events[-1].outcome.masks, run(segmenter, job).masks)
    assert worker.stop()


# --- following --------------------------------------------------------------------------------------------------------


def test_following_gives_what_track_volume_gives(sam2_model, monkeypatch):
    from ProxyPromptSegmentLib.tracking.volume import track_volume

    segmenter, job, talk = Segmenter(sam2_model, "cpu", 1), a_job(), Talk()
    engine = an_engine(segmenter)
    found = talk.do(whole_slices(job, model="sam2-compact", follow=True), engine)
    images = job.view.take(job.target.array)
    expected = track_volume(Tracker(segmenter), images, job.support, job.window, job.view.spacing_mm, job.slices)
    np.testing.assert_array_equal(found.masks, expected.masks())
    np.testing.assert_array_equal(talk.masks(found.masks.shape), expected.masks())
    assert found.masks.any()
    calls, encode = [], sam2_model.backbone.encode
    monkeypatch.setattr(sam2_model.backbone, "encode", lambda *args: (calls.append(1), encode(*args))[1])
    again = Talk().do(whole_slices(job, model="sam2-compact", follow=True), engine)
    assert calls == [] and again.embedded == 0 < found.embedded


def test_following_by_a_model_without_memory_is_refused(engine):
    with pytest.raises(UsageError, match="has no memory for tracking"):
        Talk().do(whole_slices(a_job(), follow=True), engine)


# --- one slice, and why -----------------------------------------------------------------------------------------------


def test_a_live_slice_is_the_slice_alone_and_the_run_after_it_does_not_embed_it_again(segmenter, engine, encode_calls):
    job, talk = a_job(), Talk()
    found = talk.do(whole_slice(job, 5), engine)
    image = job.view.take(job.target.array)[5:6]
    alone = segmenter.segment(image, job.support, job.window, job.view.spacing_mm)
    np.testing.assert_array_equal(found.masks, alone.probability[0] * alone.presence[0][:, None, None] > 0.5)
    assert found.masks.any()
    (event,) = talk.of(SliceReady)
    assert (event.index, event.final) == (5, True)
    np.testing.assert_array_equal(event.masks, found.masks)
    encode_calls.clear()
    Talk().do(whole_slices(job), engine)
    assert sum(encode_calls) == SIZE[0] - 1


def test_a_live_slice_that_is_not_there_is_refused(engine):
    with pytest.raises(UsageError, match="no slice 10; its slices are 0 to 9"):
        Talk().do(whole_slice(a_job(), 10), engine)


def test_a_live_task_that_is_cancelled_shows_nothing(engine):
    talk = Talk()
    talk.cancel.cancel()
    assert talk.do(whole_slice(a_job(), 5), engine).cancelled
    assert not talk.of(SliceReady)


def test_why_runs_on_what_is_embedded(engine, encode_calls):
    pytest.importorskip("ProxyPromptSegmentLib.inference.attribution")
    job = a_job()
    found = Talk().do(whole_slices(job), engine)
    row, column = np.argwhere(found.masks[5, 0])[0]
    encode_calls.clear()
    answer = Talk().do(WhyTask(job, 5, float(row), float(column)), engine)
    assert encode_calls == []
    assert (answer.index, answer.name) == (5, "prostate")
