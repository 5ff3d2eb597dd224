"""The worker thread: tasks in, events out; the newest wins, and an error is reported."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from ProxyPromptSegmentLib.worker.events import Dropped, Failed, Finished, Progressed, Said, SliceReady, StageStarted
from ProxyPromptSegmentLib.worker.thread import Worker
from thread_doubles import SOON, FakeEngine, Held, until


def test_a_task_runs_on_a_thread_of_its_own_and_its_outcome_comes_back(worker):
    ticket = worker.submit(lambda engine, context: threading.current_thread().name, "name")
    assert ticket.wait(SOON)
    assert ticket.finished and not ticket.cancelled and ticket.label == "name"
    events = worker.drain()
    assert [type(event) for event in events] == [Finished]
    assert events[0].ticket == ticket.number
    assert events[0].outcome == "ProxyPromptWorker" != threading.current_thread().name


def test_all_tasks_share_one_thread_and_one_engine_and_run_in_order(worker):
    tickets = [worker.submit(lambda engine, context: (engine, threading.get_ident())) for _ in range(5)]
    assert tickets[-1].wait(SOON)
    events = worker.drain()
    assert [event.ticket for event in events] == [ticket.number for ticket in tickets]
    assert len({event.outcome for event in events}) == 1
    assert FakeEngine.made == [events[0].outcome[0]]


def test_what_a_task_says_comes_in_order_and_ends_with_its_outcome(worker):
    masks, confidence = np.ones((2, 3, 4), np.uint8), np.ones(2, np.float32)

    def task(engine, context):
        context.say("a sentence")
        context.progress.start(2, "working")
        context.slice_ready(7, masks, confidence, final=False)
        context.progress.step(2)
        return context.ticket

    ticket = worker.submit(task)
    assert ticket.wait(SOON)
    events = worker.drain()
    assert [type(event) for event in events] == [Said, StageStarted, SliceReady, Progressed, Finished]
    assert {event.ticket for event in events} == {ticket.number} == {events[-1].outcome}
    assert (events[0].text, events[1].total, events[2].index, events[2].final) == ("a sentence", 2, 7, False)
    assert events[2].masks is masks
    assert (events[3].done, events[3].total, events[3].what) == (2, 2, "working")


def test_a_task_that_raises_is_told_and_the_thread_survives(worker):
    def broken(engine, context):
        deep = {}
        return deep["missing"]

    first = worker.submit(broken)
    second = worker.submit(lambda engine, context: "well")
    assert second.wait(SOON)
    failed, finished = worker.drain()
    assert isinstance(failed, Failed) and failed.ticket == first.number
    assert isinstance(failed.error, KeyError)
    assert "in broken" in failed.trace and "KeyError: 'missing'" in failed.trace
    assert finished.outcome == "well"


def test_an_error_does_not_keep_the_tasks_arrays_alive(worker):
    import weakref

    class Big:
        pass

    seen = []

    def broken(engine, context):
        big = Big()
        seen.append(weakref.ref(big))
        try:
            raise MemoryError("first")
        except MemoryError as error:
            raise RuntimeError("second") from error

    assert worker.submit(broken).wait(SOON)
    until(lambda: worker._desk.running is None)
    (failed,) = worker.drain()
    gc.collect()
    assert isinstance(failed.error.__cause__, MemoryError)
    assert seen[0]() is None


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_not_even_an_exit_in_a_task_ends_the_thread(worker, error):
    def leaving(engine, context):
        raise error

    worker.submit(leaving)
    ticket = worker.submit(lambda engine, context: "well")
    assert ticket.wait(SOON)
    assert [type(event) for event in worker.drain()] == [Failed, Finished]


def test_an_engine_that_cannot_be_made_is_told_and_tried_again():
    attempts = []

    def factory():
        attempts.append(1)
        if len(attempts) == 1:
            raise ImportError("torch is not installed")
        return "engine"

    worker = Worker(factory)
    worker.submit(lambda engine, context: engine)
    assert worker.submit(lambda engine, context: engine).wait(SOON)
    failed, finished = worker.drain()
    assert "not installed" in str(failed.error)
    assert finished.outcome == "engine"
    assert worker.stop(SOON)


# --- cancelling and replacing ---------------------------------------------------------------------------------------


def test_cancelling_a_running_task_is_an_outcome(worker):
    held = Held()
    ticket = worker.submit(held)
    assert held.begun.wait(SOON)
    ticket.cancel()
    assert ticket.cancelled and ticket.wait(SOON)
    assert [event.outcome for event in worker.drain()] == ["cancelled"]


def test_cancelling_a_waiting_task_ends_it_at_once_and_not_the_others(worker):
    held, ran = Held(), []
    running = worker.submit(held)
    second = worker.submit(lambda engine, context: ran.append(2))
    third = worker.submit(lambda engine, context: ran.append(3))
    assert held.begun.wait(SOON)
    second.cancel()
    assert second.finished and not running.finished
    (event,) = worker.drain()
    assert (event.ticket, event.outcome) == (second.number, Dropped())
    assert event.outcome.cancelled
    held.go.set()
    assert third.wait(SOON)
    assert ran == [3]


def test_the_newest_of_a_kind_replaces_those_before(worker):
    held, ran = Held(), []
    running = worker.submit(held, replaces="live")
    assert held.begun.wait(SOON)
    waiting = [worker.submit(lambda engine, context, n=n: ran.append(n), replaces="live") for n in range(3)]
    assert waiting[2].wait(SOON)
    assert running.cancelled and running.finished
    assert ran == [2]
    outcomes = {event.ticket: event.outcome for event in worker.drain()}
    assert outcomes == {running.number: "cancelled", 1 + running.number: Dropped(), 2 + running.number: Dropped(),
                        waiting[2].number: None}  # fmt: skip


def test_replacing_touches_no_task_of_another_kind(worker):
    held, ran = Held(), []
    running = worker.submit(held)
    other = worker.submit(lambda engine, context: ran.append("other"), replaces="check")
    last = worker.submit(lambda engine, context: ran.append("live"), replaces="live")
    assert held.begun.wait(SOON)
    assert not running.cancelled and not other.cancelled
    held.go.set()
    assert last.wait(SOON)
    assert ran == ["other", "live"]


def test_cancel_all_drops_what_waits_and_stops_what_runs(worker):
    held = Held()
    tickets = [worker.submit(held), *(worker.submit(lambda engine, context: "ran") for _ in range(3))]
    assert held.begun.wait(SOON)
    worker.cancel_all()
    assert all(ticket.wait(SOON) for ticket in tickets)
    events = sorted(worker.drain(), key=lambda event: event.ticket)
    assert [event.outcome for event in events] == ["cancelled"] + [Dropped()] * 3


# --- reading ----------------------------------------------------------------------------------------------------------


def test_it_is_busy_until_the_last_event_was_drained(worker):
    assert not worker.busy
    held = Held()
    ticket = worker.submit(held)
    assert worker.busy
    held.go.set()
    assert ticket.wait(SOON)
    assert worker.busy
    worker.drain()
    until(lambda: not worker.busy, "the end of being busy")


def test_it_is_never_idle_while_tasks_are_passed_on(worker):
    tickets = [worker.submit(lambda engine, context: None) for _ in range(300)]
    while not tickets[-1].finished:
        assert worker.busy


def test_draining_does_not_wait_and_can_take_a_few(worker):
    assert worker.drain() == []
    held = Held()
    worker.submit(held)
    assert held.begun.wait(SOON)
    assert worker.drain() == []

    def talk(engine, context):
        for n in range(5):
            context.say(str(n))

    ticket = worker.submit(talk)
    held.go.set()
    assert ticket.wait(SOON)
    assert len(worker.drain(1)) == 1
    assert [event.text for event in worker.drain(3)] == ["0", "1", "2"]
    assert len(worker.drain(100)) == 3
