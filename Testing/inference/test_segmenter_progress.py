"""The segmenter on its way: progress, cancelling, and a device whose memory runs out."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import DeviceError
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from slice_cases import assert_same, stack, support


class Steps(Progress):
    def __init__(self):
        self.events = []

    def start(self, total, what):
        self.events.append(total)

    def step(self, n=1, note=""):
        self.events.append(n)

    def close(self):
        self.events.append("closed")


def test_progress_counts_every_slice_and_is_closed_even_after_an_error(segmenter):
    steps, prepared = Steps(), segmenter.prepare(support())
    segmenter.segment(stack(), prepared, progress=steps)
    assert steps.events == [5, 2, 2, 1, "closed"]
    failing = Steps()
    with pytest.raises(ZeroDivisionError):
        segmenter.segment(stack(), prepared, progress=failing, on_slice=lambda _: 1 // 0)
    assert failing.events == [5, "closed"]


def test_cancelling_in_the_middle_keeps_what_is_done(segmenter):
    cancel, images, prepared = CancelToken(), stack(), segmenter.prepare(support())
    result = segmenter.segment(
        images, prepared, cancel=cancel, on_slice=lambda answer: cancel.cancel() if answer.index == 2 else None
    )
    assert result.cancelled
    assert result.done.tolist() == [True, True, True, True, False]
    whole = segmenter.segment(images, prepared)
    np.testing.assert_allclose(result.probability[:4], whole.probability[:4], atol=1e-6)
    assert not result.masks()[4].any()


def test_cancelling_after_the_last_slice_is_a_finished_segmentation(segmenter):
    cancel = CancelToken()
    result = segmenter.segment(stack(2), support(), cancel=cancel, on_slice=lambda _: cancel.cancel())
    assert result.done.all()
    assert not result.cancelled


def test_cancelling_before_the_first_slice_gives_an_empty_result(segmenter):
    cancel = CancelToken()
    cancel.cancel()
    result = segmenter.segment(stack(), support(), cancel=cancel)
    assert result.cancelled
    assert not result.done.any()
    assert not result.masks().any()


class FullMemory:
    """An encoder on a device where only ``fits`` slices fit."""

    def __init__(self, original, fits):
        self.original, self.fits, self.refused = original, fits, []

    def __call__(self, images, *others):
        if len(images) > self.fits:
            self.refused.append(len(images))
            raise torch.cuda.OutOfMemoryError("out of memory")
        return self.original(images, *others)


@pytest.mark.parametrize("where", ["encode", "predict"])
def test_when_memory_runs_out_the_batch_is_halved_and_nothing_is_lost(model, monkeypatch, caplog, where):
    images, given = stack(11), support()
    expected = Segmenter(model, batch=11).segment(images, given)
    if where == "encode":
        memory = FullMemory(model.backbone.encode, 2)
        monkeypatch.setattr(model.backbone, "encode", memory)
    else:
        memory = FullMemory(None, 2)
        original = model.predict

        def predict(features, *others):
            memory.original = lambda _, f, *rest: original(f, *rest)
            return memory(features.top, features, *others)

        monkeypatch.setattr(model, "predict", predict)
    segmenter = Segmenter(model, batch=8)
    result = segmenter.segment(images, given)
    assert memory.refused == [8, 4]
    assert segmenter.batch == 2
    assert "continuing with 2 slices at a time" in caplog.text
    assert result.done.all()
    assert not result.cancelled
    assert_same(result, expected)
    assert_same(segmenter.segment(images, given), expected)
    assert memory.refused == [8, 4]


def test_after_memory_ran_out_progress_still_counts_to_the_end(model, monkeypatch):
    monkeypatch.setattr(model.backbone, "encode", FullMemory(model.backbone.encode, 2))
    steps, seen = Steps(), []
    Segmenter(model, batch=8).segment(stack(11), support(), progress=steps, on_slice=lambda a: seen.append(a.index))
    assert sum(steps.events[1:-1]) == steps.events[0] == 11
    assert sorted(seen) == list(range(11))


def test_when_not_one_slice_fits_the_device_is_named(model, monkeypatch):
    prepared = Segmenter(model).prepare(support())
    monkeypatch.setattr(model.backbone, "encode", FullMemory(model.backbone.encode, 0))
    segmenter = Segmenter(model, batch=4)
    with pytest.raises(DeviceError, match="one slice does not fit into the memory of cpu") as caught:
        segmenter.segment(stack(), prepared)
    assert caught.value.remedy == Remedy(kind=RemedyKind.SAVE_MEMORY, device="cpu")
    assert segmenter.batch == 1
