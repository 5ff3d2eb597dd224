"""What a task reports while it runs: progress does not flood the queue, and the time left is the usual one."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.worker.context import Context, TimeLeft
from ProxyPromptSegmentLib.worker.events import Progressed
from thread_doubles import of


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def a_context():
    events, clock = [], Clock()
    return Context(1, CancelToken(), events.append, clock), events, clock


def test_progress_does_not_flood_the_queue_and_its_last_word_is_sent():
    context, events, clock = a_context()
    context.progress.start(1000, "steps")
    for _ in range(999):
        clock.now += 0.001
        context.progress.step()
    context.progress.close()
    told = of(events, Progressed)
    assert 15 <= len(told) <= 21  # 0.999 seconds
    assert told[-1].done == 999
    assert [event.done for event in told] == sorted({event.done for event in told})
    clock.now += 0.001
    context.progress.step()
    assert of(events, Progressed)[-1].done == 1000


def test_slices_are_never_left_out():
    context, events, _ = a_context()
    for index in range(500):
        context.slice_ready(index, np.zeros((1, 2, 2), np.uint8), np.zeros(1, np.float32))
    assert [event.index for event in events] == list(range(500))


def test_the_time_left_follows_the_usual_step_and_not_the_slow_ones():
    left = TimeLeft(0.0)
    now = 9.0  # warming up
    left.step(now, 1)
    assert left.seconds(10) is None
    for duration in (1.0, 1.1, 30.0, 0.9, 1.0):  # a window was moved
        now += duration
        left.step(now, 1)
    assert left.seconds(10) == pytest.approx(10.0)
    now += 8.0
    left.step(now, 8)  # eight at a time
    assert left.seconds(10) == pytest.approx(10.0)
    assert left.seconds(0) == 0.0
