"""The end of the worker thread: no thread is left behind, whatever it was doing."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ProxyPromptSegmentLib.worker.events import Failed, Finished
from ProxyPromptSegmentLib.worker.thread import Worker
from thread_doubles import SOON, FakeEngine, Held, of, until

ROOT = Path(__file__).resolve().parents[2]


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "ProxyPromptWorker"]


def test_stopping_ends_the_thread_and_frees_the_engine_and_a_later_task_begins_anew(worker):
    held = Held()
    ticket = worker.submit(held)
    waiting = worker.submit(lambda engine, context: "ran")
    assert held.begun.wait(SOON)
    assert worker.stop(SOON)
    assert threads() == []
    assert FakeEngine.made[0].forgotten
    assert ticket.finished and waiting.finished
    assert sorted(str(event.outcome) for event in worker.drain()) == ["Dropped(cancelled=True)", "cancelled"]
    assert worker.stop(SOON)  # twice does no harm
    assert worker.submit(lambda engine, context: "again").wait(SOON)
    assert worker.drain()[0].outcome == "again"
    assert len(FakeEngine.made) == 2 and len(threads()) == 1


def test_a_task_that_does_not_look_at_its_token_is_not_joined_by_a_second_thread(worker):
    begun, go, order = threading.Event(), threading.Event(), []

    def deaf(engine, context):
        begun.set()
        assert go.wait(SOON)
        order.append("deaf")

    worker.submit(deaf)
    assert begun.wait(SOON)
    assert not worker.stop(0.01)
    ticket = worker.submit(lambda engine, context: order.append("next"))
    time.sleep(0.05)
    assert order == [] and worker.busy
    go.set()
    assert ticket.wait(SOON)
    assert order == ["deaf", "next"]


def test_a_worker_that_nobody_holds_leaves_no_thread():
    forgotten, held = Worker(FakeEngine), Held()
    forgotten.submit(held)
    assert held.begun.wait(SOON)
    del forgotten
    gc.collect()
    until(lambda: threads() == [], "the end of the thread")


@pytest.mark.parametrize("task", ["lambda e, c: 1", "lambda e, c: c.cancel._event.wait()"])
def test_the_program_ends_while_the_worker_sleeps_or_works(task):
    code = (
        "from ProxyPromptSegmentLib.worker.thread import Worker; import sys, time\n"
        f"worker = Worker(object); worker.submit({task}); time.sleep(0.1)\n"
        "assert not {'torch', 'scipy', 'SimpleITK'} & set(sys.modules), 'heavy'\nprint('end')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_what_a_user_interface_imports_needs_no_torch():
    code = (
        "import sys; from ProxyPromptSegmentLib.worker import estimate, events, tasks, thread\n"
        "tasks.SegmentTask(job=None)\nprint(*{'torch', 'scipy', 'SimpleITK'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_many_threads_may_submit_cancel_and_drain(worker):
    count, events, tickets, lock = 40, [], [], threading.Lock()

    def busy_bee(n):
        for m in range(count):
            ticket = worker.submit(lambda engine, context: context.say("x"), replaces="same" if m % 3 == 0 else None)
            if m % 5 == 0:
                ticket.cancel()
            with lock:
                tickets.append(ticket)
                events.extend(worker.drain(2))

    bees = [threading.Thread(target=busy_bee, args=(n,)) for n in range(4)]
    for bee in bees:
        bee.start()
    for bee in bees:
        bee.join(SOON)
    assert all(ticket.wait(SOON) for ticket in tickets)
    events += worker.drain()
    ends = [event.ticket for event in of(events, (Finished, Failed))]
    assert sorted(ends) == sorted(ticket.number for ticket in tickets) == list(range(1, 4 * count + 1))
    assert not of(events, Failed)
