"""Runs without a support: the engine segments the classes that a model knows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from class_doubles import CLASSES, KIND, class_job, mark_model
from engine_doubles import tiny_model
from ProxyPromptSegmentLib.api import load_model as load_model_for_scripts
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks import generators
from ProxyPromptSegmentLib.networks.checkpoints import load_model, read_checkpoint, save_checkpoint
from ProxyPromptSegmentLib.networks.image_prompt.config import COMPACT
from ProxyPromptSegmentLib.networks.letterbox import logits_to_slice
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.weights.vocabulary import vocabulary_of
from ProxyPromptSegmentLib.worker.tasks import LiveTask, SegmentTask
from worker_doubles import Talk, a_job, an_engine


@pytest.fixture
def model():
    return mark_model()


def test_classes_are_segmented_without_a_support_and_each_slice_is_read_once(model):
    engine, job = an_engine(Segmenter(model, "cpu")), class_job()
    found = Talk().do(SegmentTask(job), engine)
    assert found.objects == ("prostate", "bladder")
    assert found.result.done.all() and found.pairs == 0 and found.masks.any()
    calls = model.generator.calls
    again = Talk().do(SegmentTask(class_job("bladder")), engine)
    assert model.generator.calls == calls and again.embedded == 0
    torch.testing.assert_close(again.result.probability[:, 0], found.result.probability[:, 1])


def test_the_same_image_gives_the_same_bits_twice(model):
    first = Talk().do(SegmentTask(class_job()), an_engine(Segmenter(model, "cpu")))
    second = Talk().do(SegmentTask(class_job()), an_engine(Segmenter(model, "cpu")))
    assert first.result.probability.tobytes() == second.result.probability.tobytes()


def test_segments_have_the_names_colours_and_codes_of_the_vocabulary(model):
    found = Talk().do(SegmentTask(class_job("prostate")), an_engine(Segmenter(model, "cpu")))
    segment = found.segmentation.segments[0]
    assert segment.name == "prostate" and segment.color_rgb == (0.9, 0.1, 0.2)
    assert segment.terminology["type"] == ["SCT", "41216001", "Prostate"]


def test_a_preview_is_the_slice_of_the_whole_run_without_its_neighbours(model):
    engine, job = an_engine(Segmenter(model, "cpu")), class_job()
    whole = Talk().do(SegmentTask(job, across_slices=False), engine)
    live = Talk().do(LiveTask(job, 4), engine)
    np.testing.assert_array_equal(live.masks, whole.masks[4])


def test_supports_for_a_model_of_classes_and_classes_for_one_of_supports_are_usage_errors(model):
    with pytest.raises(UsageError, match="not prompted by supports: it knows prostate, bladder, polyp"):
        Talk().do(SegmentTask(a_job()), an_engine(Segmenter(model, "cpu")))
    with pytest.raises(UsageError, match="prompted by supports and knows no classes"):
        Talk().do(SegmentTask(class_job()), an_engine(Segmenter(tiny_model(), "cpu")))
    with pytest.raises(UsageError, match="needs an annotated case"):
        Talk().do(SegmentTask(class_job(), follow=True), an_engine(Segmenter(model, "cpu")))


def test_the_memory_ladder_needs_no_support(model):
    encode = model.backbone.encode

    def small(images, valid=None):
        if len(images) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return encode(images, valid)

    whole = Talk().do(SegmentTask(class_job()), an_engine(Segmenter(mark_model(), "cpu")))
    model.backbone.encode = small
    segmenter = Segmenter(model, "cpu", batch=4)
    found = Talk().do(SegmentTask(class_job()), an_engine(segmenter))
    assert segmenter.batch == 1
    np.testing.assert_allclose(found.result.probability, whole.result.probability, atol=1e-5)


def test_the_ladder_says_nothing_of_supports_where_there_are_none(model):
    def never(images, valid=None):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    model.backbone.encode = never
    with pytest.raises(Exception, match="one slice does not fit into the memory of cpu$"):
        Talk().do(SegmentTask(class_job()), an_engine(Segmenter(model, "cpu")))


def test_a_checkpoint_names_its_kind_of_generator_and_its_classes(model, tmp_path, monkeypatch):
    monkeypatch.setattr(generators, "KINDS", {**generators.KINDS, **KIND})
    described = {"model": {**model.describe(), "backbone": "sam-compact"}, "name": "marks"}
    path = tmp_path / "marks.safetensors"
    save_checkpoint(path, model.state_dict(), described)
    metadata = read_checkpoint(path)[1]
    assert metadata["model"]["generator_kind"] == "marks" and metadata["format"] == 4
    assert [one.name for one in vocabulary_of(str(path))] == ["prostate", "bladder", "polyp"]
    monkeypatch.setattr(generators, "KINDS", {"proxy": generators.KINDS["proxy"]})
    with pytest.raises(Exception, match="of the kind 'marks'.*Update"):
        load_model(path)


@pytest.fixture(scope="module")
def autosam():
    torch.manual_seed(0)
    return build_model("sam-compact", dataclasses.replace(COMPACT, classes=CLASSES[:2])).eval()


def test_the_surrogate_decoder_previews_without_the_image_encoder_of_sam(autosam, monkeypatch):
    calls, encode = [], autosam.backbone.encode
    monkeypatch.setattr(autosam.backbone, "encode", lambda *words: calls.append(1) or encode(*words))
    engine = an_engine(Segmenter(autosam, "cpu"))
    job = class_job("bladder")
    fast = Talk().do(SegmentTask(job, surrogate=True), engine)
    assert not calls and fast.objects == ("bladder",)
    live = Talk().do(LiveTask(job, 4, surrogate=True), engine)
    assert not calls and live.masks.shape == (1, 40, 40)
    with torch.inference_mode():
        segmenter = Segmenter(autosam, "cpu")
        encoded = segmenter.encode(job.view.take(job.target.array)[4:5], job.window, job.view.spacing_mm)
        prompt = autosam.generator.prompt(encoded.features, autosam.generator.prepare_classes(["bladder"]))
        logits = autosam.generator.surrogate(prompt.dense[:, 0])
        expected = torch.sigmoid(logits_to_slice(logits, encoded.box))[0, 0].numpy()
    np.testing.assert_allclose(fast.result.probability[4, 0], expected, atol=1e-5)
    whole = Talk().do(SegmentTask(job), engine)
    assert calls and not np.allclose(whole.result.probability, fast.result.probability)


def test_a_model_without_a_surrogate_decoder_says_so(model):
    with pytest.raises(UsageError, match="no surrogate decoder"):
        Talk().do(SegmentTask(class_job(), surrogate=True), an_engine(Segmenter(model, "cpu")))


def test_scripts_ask_for_classes_by_name(autosam, tmp_path, monkeypatch):
    path = tmp_path / "auto.safetensors"
    save_checkpoint(path, autosam.state_dict(), {"name": "auto", "model": autosam.describe()})
    loaded = load_model_for_scripts(str(path), "cpu")
    assert loaded.classes == ("prostate", "bladder")
    target = pelvis_phantom(12, (10, 40, 40))[0]
    found = loaded.segment_classes(target, "urinary bladder", slices=[3, 4])
    assert found.objects == ("bladder",) and found.result.done.sum() == 2
    with pytest.raises(UsageError, match="does not know the class 'liver'"):
        loaded.segment_classes(target, ["liver"])
