"""A worker without a thread and without a network: plans really, "finds" random blobs, and answers one event a call."""

from __future__ import annotations

import types
from collections import deque

import numpy as np

from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.reports.doubts import slices_to_look_at
from ProxyPromptSegmentLib.reports.results_table import ResultArrays, object_table
from ProxyPromptSegmentLib.worker import events


class ScriptedTicket:
    """A ticket that can be cancelled."""

    def __init__(self, number):
        self.number, self.cancelled = number, False

    def cancel(self):
        self.cancelled = True


class ScriptedWorker:
    """Takes the place of a logic's worker; a run sends every slice as a draft and again as the final mask."""

    def __init__(self):
        self._numbers, self._queue, self.runs = 0, deque(), 0

    @property
    def busy(self):
        return bool(self._queue)

    def submit(self, task, label="", replaces=None, yields=False):
        self._numbers += 1
        ticket = ScriptedTicket(self._numbers)
        self._queue.append((ticket, self._events(task, ticket)))
        return ticket

    def drain(self, most=None):
        if not self._queue:
            return []
        event = next(self._queue[0][1], None)
        if event is None:
            self._queue.popleft()
            return []
        return [event]

    def cancel_all(self):
        self._queue.clear()

    def stop(self, timeout=10.0):
        self.cancel_all()
        return True

    def _events(self, task, ticket):
        kind = type(task).__name__
        if kind == "SegmentTask":
            yield from self._segment(task.job, ticket)
        elif kind == "SummaryTask":
            yield events.Finished(ticket.number, _summary(task.result))
        elif kind == "PlanTask":
            context = types.SimpleNamespace(progress=Progress(), cancel=CancelToken())
            yield events.Finished(ticket.number, task(None, context))
        else:
            yield events.Finished(ticket.number, None)

    def _segment(self, job, ticket):
        self.runs += 1
        rng = np.random.default_rng(self.runs)
        stack = job.view.take(job.target.array).shape[:3]
        masks = np.zeros((stack[0], len(job.support.objects), *stack[1:]), np.uint8)
        done = np.zeros(stack[0], bool)
        for final in (False, True):
            for index in job.slices:
                if ticket.cancelled:
                    break
                masks[index] = rng.random(masks.shape[1:]) > (0.6 if final else 0.5)
                masks[index, :, :3] = 0  # beside it is room for what nobody but the user draws
                done[index] = True
                yield events.SliceReady(ticket.number, index, masks[index].copy(), np.ones(len(masks[index])), final)
        yield events.Finished(ticket.number, _result(job, masks, done, rng, ticket.cancelled))


def _result(job, masks, done, rng, cancelled):
    shape = masks.shape[:2]
    arrays = ResultArrays(
        objects=tuple(job.support.objects),
        masks=masks,
        confidence=rng.random(shape).astype(np.float32),
        presence=np.ones(shape, np.float32),
        done=done,
        voxel_mm3=float(np.prod(job.target.geometry.spacing_mm)),
        names=SliceNames(),
    )
    return types.SimpleNamespace(
        arrays=arrays, cancelled=cancelled, notes=[], model=None, helps=types.SimpleNamespace(names=(), sentence="")
    )


def _summary(result):
    from ProxyPromptSegmentModule.runs.tasks import confidence_by_slice

    return types.SimpleNamespace(
        table=object_table(result.arrays),
        doubts=slices_to_look_at(result.arrays),
        record={},
        text="{}",
        nothing_found=False,
        notes=(),
        confidence=confidence_by_slice(result.arrays),
    )
