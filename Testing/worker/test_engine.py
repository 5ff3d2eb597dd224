"""Engine and tasks: slices stream, and yet end as the pipeline makes them; what is embedded is not embedded again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, tiny_model
from plain_run import run
from ProxyPromptSegmentLib.errors import CheckpointError, InputError, UsageError
from ProxyPromptSegmentLib.frames import FrameArray
from ProxyPromptSegmentLib.frames.frame_choice import FrameChoice
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.tracking.tracker import Tracker
from ProxyPromptSegmentLib.worker.encodings import EncodingStore, bytes_of
from ProxyPromptSegmentLib.worker.engine import Engine
from ProxyPromptSegmentLib.worker.events import Finished, FrameLookedAt, Progressed, SliceReady, StageStarted
from ProxyPromptSegmentLib.worker.streaming import Stream, outwards
from ProxyPromptSegmentLib.worker.tasks import FramesTask, LiveTask, SegmentTask, WhyTask
from ProxyPromptSegmentLib.worker.thread import Worker
from worker_doubles import SIZE, Talk, a_job, an_engine, embedded, loaded

DONE = 0.5


@pytest.fixture(scope="module")
def model():
    return embedded()


@pytest.fixture(scope="module")
def sam2_model():
    pytest.importorskip("sam2")
    return embedded("sam2-compact")


@pytest.fixture
def segmenter(model):
    return Segmenter(model, "cpu", batch=1)


@pytest.fixture
def engine(segmenter):
    return an_engine(segmenter)


def indices(talk):
    return [event.index for event in talk.of(SliceReady) if not event.final]


# --- a volume -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "first"), [(1, None), (1, 5), (1, 99), (4, None), (4, 5)])
def test_masks_are_those_of_the_pipeline_whatever_comes_first(model, batch, first):
    segmenter = Segmenter(model, "cpu", batch)
    job, talk = a_job(objects=("prostate", "front")), Talk()
    expected = run(segmenter, job)
    found = talk.do(SegmentTask(job, first=first), an_engine(segmenter))
    np.testing.assert_array_equal(found.masks, expected.masks)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-6)
    assert 0 < expected.masks[:, 1].sum() < expected.masks[:, 0].sum()
    for own, other in zip(found.segmentation.segments, expected.segmentation.segments, strict=True):
        np.testing.assert_array_equal(own.mask, other.mask)
    np.testing.assert_array_equal(talk.masks(found.masks.shape), expected.masks)


def test_a_slice_comes_as_soon_as_it_is_known_and_again_only_where_it_changed(engine):
    job, talk = a_job(), Talk()
    final = talk.do(SegmentTask(job), engine).masks
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
    talk.do(SegmentTask(job, first=5), engine)
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
    found = talk.do(SegmentTask(job, first=4), engine)
    done = np.flatnonzero(found.result.done).tolist()
    assert found.cancelled
    assert done == [2, 3, 4, 5, 6] and found.slices == 5
    expected = segmenter.segment(job.view.take(job.target.array), job.support, job.window, slices=done).masks()
    np.testing.assert_array_equal(found.masks, expected)
    np.testing.assert_array_equal(talk.masks(expected.shape), expected)


def test_cancelling_before_the_support_is_prepared_gives_an_empty_outcome(engine):
    talk = Talk(lambda event: talk.cancel.cancel() if isinstance(event, StageStarted) else None)
    found = talk.do(SegmentTask(a_job()), engine)
    assert found.cancelled and found.slices == 0
    assert not found.masks.any() and not talk.of(SliceReady)


def test_the_outcome_says_what_computed_it(engine):
    job = a_job()
    found = Talk().do(SegmentTask(job), engine)
    assert (found.model.name, found.device, found.rungs, found.half) == ("sam-compact", "cpu", [], False)
    assert (found.slices, found.embedded, found.pairs, found.objects) == (10, 10, 3, ("prostate",))
    assert set(found.seconds) == {"model", "support", "segmentation"}
    assert min(found.seconds.values()) >= 0


def test_the_notes_of_the_job_are_told(engine):
    job = replace(a_job(), notes=(Note("the support is older"),))
    assert Talk().do(SegmentTask(job), engine).notes[0] == Note("the support is older")


def test_no_array_of_the_job_is_changed(engine):
    job = a_job()
    before = [job.target.array.copy(), *(pair.image.copy() for pair in job.support.pairs)]
    for task in (SegmentTask(job), LiveTask(job, 5)):
        Talk().do(task, engine)
    for old, new in zip(before, [job.target.array, *(pair.image for pair in job.support.pairs)], strict=True):
        np.testing.assert_array_equal(old, new)


def test_progress_tells_each_stage(engine):
    talk = Talk()
    talk.do(SegmentTask(a_job()), engine)
    assert [event.what for event in talk.of(StageStarted)] == [
        "loading the model", "preparing the support", "segmenting"
    ]  # fmt: skip
    last = talk.of(Progressed)[-1]
    assert (last.what, last.done, last.total) == ("segmenting", 10, 10)


def test_on_the_worker_thread_it_is_the_same(segmenter):
    worker = Worker(lambda: an_engine(segmenter))
    job = a_job()
    assert worker.submit(SegmentTask(job)).wait(60)
    events = worker.drain()
    assert isinstance(events[-1], Finished)
    np.testing.assert_array_equal(events[-1].outcome.masks, run(segmenter, job).masks)
    assert worker.stop()


# --- what is embedded stays embedded ----------------------------------------------------------------------------------


def test_a_second_run_embeds_nothing(engine, encode_calls):
    job = a_job()
    first = Talk().do(SegmentTask(job), engine)
    assert sum(encode_calls) == SIZE[0] + len(job.support)
    encode_calls.clear()
    second = Talk().do(SegmentTask(job, threshold=0.5), engine)
    assert encode_calls == []
    assert second.embedded == 0
    np.testing.assert_array_equal(second.result.probability, first.result.probability)


def test_another_object_of_the_support_embeds_nothing(engine, encode_calls):
    Talk().do(SegmentTask(a_job(support_slices=(4, 5))), engine)
    encode_calls.clear()
    job = a_job(objects=("front",), support_slices=(4, 5))
    found = Talk().do(SegmentTask(job), engine)
    assert encode_calls == []
    assert found.masks.any() and found.embedded == 0


def test_another_support_embeds_only_its_own_images_and_the_first_one_then_nothing(segmenter, engine, encode_calls):
    first, second = a_job(support=11), a_job(support=13)
    one = Talk().do(SegmentTask(first), engine)
    encode_calls.clear()
    other = Talk().do(SegmentTask(second), engine)
    assert sum(encode_calls) == len(second.support)
    encode_calls.clear()
    again = Talk().do(SegmentTask(first), engine)
    assert encode_calls == []
    np.testing.assert_array_equal(again.masks, one.masks)
    assert (other.masks != one.masks).any()
    np.testing.assert_array_equal(other.masks, run(segmenter, second).masks)


def test_another_target_is_not_taken_for_the_first(segmenter, engine, encode_calls):
    Talk().do(SegmentTask(a_job(12)), engine)
    encode_calls.clear()
    job = a_job(15)
    found = Talk().do(SegmentTask(job), engine)
    assert sum(encode_calls) == SIZE[0]
    np.testing.assert_array_equal(found.masks, run(segmenter, job).masks)


def test_a_task_can_leave_nothing_behind(engine, encode_calls):
    job = a_job()
    found = Talk().do(SegmentTask(job, keep=False), engine)
    assert len(engine.encodings) == len(job.support)  # the support's own
    assert found.embedded == SIZE[0]


def test_forgetting_frees_everything(engine, encode_calls):
    job = a_job()
    Talk().do(SegmentTask(job), engine)
    assert engine.encodings.held("cpu") > 0 and engine.is_loaded("sam-compact", "cpu")
    engine.forget()
    assert engine.encodings.held("cpu") == len(engine.encodings) == 0
    assert not engine.is_loaded("sam-compact", "cpu")
    encode_calls.clear()
    Talk().do(SegmentTask(job), engine)
    assert sum(encode_calls) == SIZE[0] + len(job.support)


def test_embeddings_are_bounded_in_bytes_and_a_small_bound_changes_no_mask(segmenter, encode_calls):
    one = bytes_of(segmenter.encode(np.random.rand(1, 64, 64).astype(np.float32)).features)
    engine, job = an_engine(segmenter, embedding_bytes=9 * one), a_job()
    found = Talk().do(SegmentTask(job), engine)
    assert engine.encodings.held("cpu") == len(engine.encodings) * one == 9 * one
    np.testing.assert_array_equal(found.masks, run(segmenter, job).masks)
    encode_calls.clear()
    again = Talk().do(SegmentTask(job), engine)
    assert again.embedded > 0
    np.testing.assert_array_equal(again.masks, found.masks)


def storages(store):
    kept = [value for values in store._kept._values.values() for value, _ in values.values()]
    tensors = [t for e in kept for t in (e.features.top, e.features.valid, *(e.features.high_res or ()))]
    return (
        {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors},
        {e.features.positions.data_ptr() for e in kept},
    )


@pytest.mark.parametrize("name", ["model", "sam2_model"])
def test_the_store_counts_what_it_holds_to_the_byte_and_keeps_no_batch_alive(request, name):
    segmenter = Segmenter(request.getfixturevalue(name), "cpu", batch=4)
    images = np.random.default_rng(0).uniform(0, 1, (8, 64, 64)).astype(np.float32)
    store = EncodingStore()
    for start in (0, 4):
        made = segmenter.encode(images[start : start + 4], (0.0, 1.0))
        for offset in (1, 3):  # the others have gone
            store.put("cpu", made.one(offset))
        del made
    held, positions = storages(store)
    assert sum(held.values()) == store.held("cpu") > 0
    assert len(positions) == 1
    back = store.get("cpu", segmenter.encode(images[5:6], (0.0, 1.0)).keys[0])
    assert isinstance(back, EncodedSlices)
    torch.testing.assert_close(back.features.top, segmenter.encode(images[5:6], (0.0, 1.0)).features.top)


def test_a_prepared_support_is_what_the_segmenter_prepares(segmenter, engine):
    job = a_job(objects=("prostate", "front"))
    own, expected = engine.prepared(segmenter, job.support), segmenter.prepare(job.support)
    for name in ("features", "aggregated", "occupancy", "valid"):
        torch.testing.assert_close(getattr(own, name), getattr(expected, name), rtol=0, atol=0)
    assert (own.names, own.one_piece) == (expected.names, expected.one_piece)


def test_two_generators_on_one_backbone_share_embeddings_but_no_prepared_support(encode_calls, segmenter, engine):
    import copy

    twin = copy.deepcopy(segmenter.model)
    with torch.no_grad():
        next(twin.generator.bridge.parameters()).add_(0.5)
    twin.backbone = segmenter.model.backbone
    other, job = Segmenter(twin, "cpu", 1), a_job()
    first = engine.prepared(segmenter, job.support)
    encode_calls.clear()
    second = engine.prepared(other, job.support)
    assert encode_calls == []
    assert (first.aggregated != second.aggregated).any()


# --- models -----------------------------------------------------------------------------------------------------------


def test_a_model_is_loaded_once_and_the_longest_unused_goes(tmp_path):
    opened, tiny = [], tiny_model(**EVERYTHING)
    engine = Engine(models=2, load=lambda model, device: (opened.append(model), loaded(Segmenter(tiny), model))[1])
    files = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for file in files:
        file.write_bytes(b"1")
    a, b, c = map(str, files)
    for model in (a, b, a, c, a, b):
        engine.open(model, "cpu")
    assert opened == [a, b, c, b]
    files[1].write_bytes(b"another")
    engine.open(b, "cpu")
    assert opened[-1] == b and len(opened) == 5


def test_an_unknown_model_is_a_sentence():
    with pytest.raises(CheckpointError, match="no model 'nonsense'"):
        Talk().do(SegmentTask(a_job(), model="nonsense"), Engine())


def test_the_embedded_model_is_opened_by_name():
    found = Talk().do(SegmentTask(a_job(slices=[5]), device="cpu"), Engine())
    assert found.model.metadata["recipe"] and len(found.model.sha256) == 64
    assert found.masks[5].any()


# --- following --------------------------------------------------------------------------------------------------------


def test_following_gives_what_track_volume_gives(sam2_model, monkeypatch):
    from ProxyPromptSegmentLib.tracking.volume import track_volume

    segmenter, job, talk = Segmenter(sam2_model, "cpu", 1), a_job(), Talk()
    engine = an_engine(segmenter)
    found = talk.do(SegmentTask(job, model="sam2-compact", follow=True), engine)
    images = job.view.take(job.target.array)
    expected = track_volume(Tracker(segmenter), images, job.support, job.window, job.view.spacing_mm, job.slices)
    np.testing.assert_array_equal(found.masks, expected.masks())
    np.testing.assert_array_equal(talk.masks(found.masks.shape), expected.masks())
    assert found.masks.any()
    calls, encode = [], sam2_model.backbone.encode
    monkeypatch.setattr(sam2_model.backbone, "encode", lambda *args: (calls.append(1), encode(*args))[1])
    again = Talk().do(SegmentTask(job, model="sam2-compact", follow=True), engine)
    assert calls == [] and again.embedded == 0 < found.embedded


def test_following_by_a_model_without_memory_is_refused(engine):
    with pytest.raises(UsageError, match="has no memory for tracking"):
        Talk().do(SegmentTask(a_job(), follow=True), engine)


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


# --- one slice, and why -----------------------------------------------------------------------------------------------


def test_a_live_slice_is_the_slice_alone_and_the_run_after_it_does_not_embed_it_again(segmenter, engine, encode_calls):
    job, talk = a_job(), Talk()
    found = talk.do(LiveTask(job, 5), engine)
    image = job.view.take(job.target.array)[5:6]
    alone = segmenter.segment(image, job.support, job.window, job.view.spacing_mm)
    np.testing.assert_array_equal(found.masks, alone.probability[0] * alone.presence[0][:, None, None] > 0.5)
    assert found.masks.any()
    (event,) = talk.of(SliceReady)
    assert (event.index, event.final) == (5, True)
    np.testing.assert_array_equal(event.masks, found.masks)
    encode_calls.clear()
    Talk().do(SegmentTask(job), engine)
    assert sum(encode_calls) == SIZE[0] - 1


def test_a_live_slice_that_is_not_there_is_refused(engine):
    with pytest.raises(UsageError, match="no slice 10; its slices are 0 to 9"):
        Talk().do(LiveTask(a_job(), 10), engine)


def test_a_live_task_that_is_cancelled_shows_nothing(engine):
    talk = Talk()
    talk.cancel.cancel()
    assert talk.do(LiveTask(a_job(), 5), engine).cancelled
    assert not talk.of(SliceReady)


def test_why_runs_on_what_is_embedded(engine, encode_calls):
    pytest.importorskip("ProxyPromptSegmentLib.inference.attribution")
    job = a_job()
    found = Talk().do(SegmentTask(job), engine)
    row, column = np.argwhere(found.masks[5, 0])[0]
    encode_calls.clear()
    answer = Talk().do(WhyTask(job, 5, float(row), float(column)), engine)
    assert encode_calls == []
    assert (answer.index, answer.name) == (5, "prostate")


# --- half precision ---------------------------------------------------------------------------------------------------


def test_half_precision_is_nearly_the_same_and_keeps_embeddings_apart(segmenter):
    job = a_job()
    images = job.view.take(job.target.array)[4:7]
    whole, half = {}, {}
    twin = segmenter.in_half(torch.bfloat16)
    first = segmenter.segment(images, job.support, job.window, encoded=whole)
    second = twin.segment(images, job.support, job.window, encoded=half)
    assert second.probability.dtype == np.float32
    difference = np.abs(first.probability - second.probability)
    assert difference.max() > 0 and difference.mean() < 0.02
    assert whole[0].keys != half[0].keys
    assert twin.model is segmenter.model and segmenter.half is None
