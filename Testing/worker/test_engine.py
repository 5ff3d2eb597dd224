"""The engine: what is embedded is not embedded again, and a model is loaded once."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, tiny_model
from plain_run import run
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.worker.encodings import EncodingStore, bytes_of
from ProxyPromptSegmentLib.worker.engine import Engine
from worker_doubles import SIZE, Talk, a_job, an_engine, loaded, whole_slices

# --- what is embedded stays embedded ----------------------------------------------------------------------------------


def test_a_second_run_embeds_nothing(engine, encode_calls):
    job = a_job()
    first = Talk().do(whole_slices(job), engine)
    assert sum(encode_calls) == SIZE[0] + len(job.support)
    encode_calls.clear()
    second = Talk().do(whole_slices(job, threshold=0.5), engine)
    assert encode_calls == []
    assert second.embedded == 0
    np.testing.assert_array_equal(second.result.probability, first.result.probability)


def test_another_object_of_the_support_embeds_nothing(engine, encode_calls):
    Talk().do(whole_slices(a_job(support_slices=(4, 5))), engine)
    encode_calls.clear()
    job = a_job(objects=("front",), support_slices=(4, 5))
    found = Talk().do(whole_slices(job), engine)
    assert encode_calls == []
    assert found.masks.any() and found.embedded == 0


def test_another_support_embeds_only_its_own_images_and_the_first_one_then_nothing(segmenter, engine, encode_calls):
    first, second = a_job(support=11), a_job(support=13)
    one = Talk().do(whole_slices(first), engine)
    encode_calls.clear()
    other = Talk().do(whole_slices(second), engine)
    assert sum(encode_calls) == len(second.support)
    encode_calls.clear()
    again = Talk().do(whole_slices(first), engine)
    assert encode_calls == []
    np.testing.assert_array_equal(again.masks, one.masks)
    assert (other.masks != one.masks).any()
    np.testing.assert_array_equal(other.masks, run(segmenter, second).masks)


def test_another_target_is_not_taken_for_the_first(segmenter, engine, encode_calls):
    Talk().do(whole_slices(a_job(12)), engine)
    encode_calls.clear()
    job = a_job(15)
    found = Talk().do(whole_slices(job), engine)
    assert sum(encode_calls) == SIZE[0]
    np.testing.assert_array_equal(found.masks, run(segmenter, job).masks)


def test_a_task_can_leave_nothing_behind(engine, encode_calls):
    job = a_job()
    found = Talk().do(whole_slices(job, keep=False), engine)
    assert len(engine.encodings) == len(job.support)  # the support's own
    assert found.embedded == SIZE[0]


def test_forgetting_frees_everything(engine, encode_calls):
    job = a_job()
    Talk().do(whole_slices(job), engine)
    assert engine.encodings.held("cpu") > 0 and engine.is_loaded("sam-compact", "cpu")
    engine.forget()
    assert engine.encodings.held("cpu") == len(engine.encodings) == 0
    assert not engine.is_loaded("sam-compact", "cpu")
    encode_calls.clear()
    Talk().do(whole_slices(job), engine)
    assert sum(encode_calls) == SIZE[0] + len(job.support)


def test_embeddings_are_bounded_in_bytes_and_a_small_bound_changes_no_mask(segmenter, encode_calls):
    one = bytes_of(segmenter.encode(np.random.rand(1, 64, 64).astype(np.float32)).features)
    engine, job = an_engine(segmenter, embedding_bytes=9 * one), a_job()
    found = Talk().do(whole_slices(job), engine)
    assert engine.encodings.held("cpu") == len(engine.encodings) * one == 9 * one
    np.testing.assert_array_equal(found.masks, run(segmenter, job).masks)
    encode_calls.clear()
    again = Talk().do(whole_slices(job), engine)
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
        Talk().do(whole_slices(a_job(), model="nonsense"), Engine())


def test_the_embedded_model_is_opened_by_name():
    found = Talk().do(whole_slices(a_job(slices=[5]), device="cpu"), Engine())
    assert found.model.metadata["recipe"] and len(found.model.sha256) == 64
    assert found.masks[5].any()


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
