"""What a run takes, estimated by timing its second batch: looks are counted, and memory is what the process holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from engine_doubles import tiny_model
from ProxyPromptSegmentLib.networks.devices import resident_bytes
from ProxyPromptSegmentLib.worker.events import Forecasted
from ProxyPromptSegmentLib.worker.first_batches import FirstBatches, peak_bytes
from worker_doubles import Machine, Talk, a_job, an_engine, whole_slices


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_second_batch_says_what_a_look_takes_and_the_first_what_is_done_once():
    clock = Clock()
    batches = FirstBatches(90.0, clock)
    batches.start()
    clock.now += 5  # with the warm-up
    batches.finished(2, 22, 0)
    assert batches.forecast is None
    clock.now += 1  # four looks at two slices
    batches.finished(4, 20, 7_000_000_000)
    assert batches.forecast.seconds == pytest.approx(16 + 20 * 0.25)
    held = resident_bytes() or peak_bytes()
    assert batches.forecast.memory_bytes == pytest.approx(held + 7e9, rel=0.05)
    clock.now += 50
    batches.finished(2, 2, 0)
    assert batches.forecast.seconds == pytest.approx(21), "it is made once"


def test_memory_that_was_needed_before_counts_where_later_batches_add_less():
    array = np.ones(200_000_000, np.uint8)
    del array
    batches = FirstBatches(0.0, Clock())
    batches.finished(1, 1, 0)
    batches.finished(1, 1, 0)
    assert batches.forecast.memory_bytes >= (peak_bytes() or 0) * 0.99


def test_a_run_says_what_it_was_estimated_to_take_unless_it_was_over(segmenter):
    short = Talk().do(whole_slices(a_job(slices=(4,))), an_engine(segmenter))
    assert short.forecast is None and short.peak_bytes > 50e6
    talk = Talk()
    one_by_one = segmenter.reading(None)
    one_by_one._batch = [1]
    found = talk.do(replace(whole_slices(a_job()), closer=True), an_engine(one_by_one))
    (sent,) = talk.of(Forecasted)
    assert (sent.seconds, sent.memory_bytes) == (found.forecast.seconds, found.forecast.memory_bytes)
    assert sent.device == "cpu" and talk.events.index(sent) < len(talk.events) // 2, "while there is time left"
    slices = found.slices
    assert found.forecast.looks >= slices - 2, "whole slices, and closer looks where a support shows the object"
    assert found.forecast.looks <= 2 * (slices - 2)
    assert 0.2 < found.forecast.seconds / sum(found.seconds.values()) < 5
    assert 0.8 < found.forecast.memory_bytes / found.peak_bytes < 1.25


def test_a_run_that_continues_elsewhere_is_estimated_again_there():
    card = Machine(tiny_model(), {"small": 100, "cpu": 100}, batch=1)

    def forget_memory(event):
        if isinstance(event, Forecasted) and event.device == "small":
            card.limits["small"] = 0.1

    talk = Talk(forget_memory)
    found = talk.do(whole_slices(a_job()), card.engine())
    assert found.device == "cpu" and [one.device for one in talk.of(Forecasted)] == ["small", "cpu"]
    last = talk.of(Forecasted)[-1]
    assert found.forecast.looks == found.slices - 4, "those that were left there"
    assert (found.forecast.seconds, found.forecast.memory_bytes) == (last.seconds, last.memory_bytes)
