"""Supports prepared before a run needs them: the run finds them on disk, any other task goes first, nothing is kept."""

from __future__ import annotations

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_model
from ProxyPromptSegmentLib.inference.job import plan, plan_ahead
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.worker.kept_supports import KeptSupports
from ProxyPromptSegmentLib.worker.tasks import PrepareTask, SegmentTask
from ProxyPromptSegmentLib.worker.thread import Worker
from worker_doubles import Talk, a_support_case, an_engine, phantom

SOON = 20


@pytest.mark.parametrize("cases", [1, 2])
def test_what_is_prepared_ahead_is_the_support_that_a_run_has(cases):
    supports, target = [a_support_case(11 + number) for number in range(cases)], phantom(20)[0]
    ahead, job = plan_ahead(supports, target.geometry), plan(supports, target)
    assert ahead.support.objects == job.support.objects and ahead.view == job.view
    assert len(ahead.support) == len(job.support) == 3 * cases
    for one, other in zip(ahead.support.pairs, job.support.pairs, strict=True):
        assert (one.window, one.spacing_mm, one.depth) == (other.window, other.spacing_mm, other.depth)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.masks, other.masks)


class Counting:
    """A segmenter that counts the images that its encoder sees."""

    def __init__(self):
        self.segmenter, self.images = Segmenter(tiny_model(), "cpu", 1), 0
        encode = self.segmenter.model.backbone.encode

        def counted(images, valid=None):
            self.images += len(images)
            return encode(images, valid)

        self.segmenter.model.backbone.encode = counted

    def engine(self, kept):
        return an_engine(self.segmenter, kept=kept)


def test_the_first_run_of_another_process_finds_the_supports_on_disk(tmp_path):
    case, target, counting = a_support_case(), phantom(20)[0], Counting()
    task = PrepareTask(plan_ahead([case], target.geometry))
    assert Talk().do(task, counting.engine(KeptSupports(tmp_path))) is True
    prepared = counting.images
    assert prepared >= 3 and len(list(tmp_path.glob("*.safetensors"))) == prepared
    counting.images = 0
    job = plan([case], target, slices=(4,))
    found = Talk().do(SegmentTask(job), counting.engine(KeptSupports(tmp_path)))
    assert found.slices == 1 and counting.images <= 2, "the slice, and its closer look; no support"
    counting.images = 0
    Talk().do(SegmentTask(job), counting.engine(KeptSupports(tmp_path / "empty")))
    assert counting.images >= 1 + prepared, "so much it is without"


def test_where_no_supports_are_kept_nothing_is_computed_or_loaded():
    counting = Counting()
    engine = counting.engine(None)
    assert Talk().do(PrepareTask(plan_ahead([a_support_case()], phantom(20)[0].geometry)), engine) is False
    assert counting.images == 0 and not engine.is_loaded("sam-compact", "cpu")


def test_it_stops_between_two_support_slices(tmp_path):
    counting, talk = Counting(), Talk()
    encode = counting.segmenter.model.backbone.encode

    def last(images, valid=None):
        talk.cancel.cancel()
        return encode(images, valid)

    counting.segmenter.model.backbone.encode = last
    task = PrepareTask(plan_ahead([a_support_case()], phantom(20)[0].geometry))
    assert talk.do(task, counting.engine(KeptSupports(tmp_path))) is False
    assert counting.images == 1 and len(list(tmp_path.glob("*.safetensors"))) == 1, "what is done is kept"


def test_every_other_task_goes_before_one_that_yields():
    worker, begun = Worker(object), threading.Event()

    def ahead(engine, context):
        begun.set()
        until = threading.Event()
        while not context.cancel.cancelled:
            until.wait(0.01)
        return "stopped"

    try:
        first = worker.submit(ahead, yields=True)
        assert begun.wait(SOON)
        waiting = worker.submit(lambda engine, context: "never", yields=True)
        assert first.cancelled, "by one that was asked for later"
        run = worker.submit(lambda engine, context: "ran")
        assert run.wait(SOON) and waiting.cancelled and not run.cancelled
        outcomes = {event.ticket: event.outcome for event in worker.drain()}
        assert outcomes[first.number] == "stopped" and outcomes[run.number] == "ran"
        assert outcomes[waiting.number] != "never"
        behind = worker.submit(lambda engine, context: "ahead", yields=True)
        assert behind.wait(SOON) and not behind.cancelled
    finally:
        assert worker.stop(SOON)
