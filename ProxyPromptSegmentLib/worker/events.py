"""Events of the worker thread. They hold arrays and slice indices, never nodes, so that any thread may read them.

Every submitted task ends with exactly one `Finished` or `Failed`, which is its last event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.results import FrameResult

__all__ = [
    "Advanced",
    "Dropped",
    "Event",
    "Failed",
    "Finished",
    "Forecasted",
    "FrameLookedAt",
    "LabelsReady",
    "Progressed",
    "Said",
    "SliceReady",
    "StageStarted",
]


@dataclass(frozen=True)
class Event:
    """The base of all events of a task.

    Attributes:
        ticket: Number of the task, see `worker.Ticket`.
    """

    ticket: int


@dataclass(frozen=True)
class StageStarted(Event):
    """The start of the stage ``what`` with ``total`` steps, counted from 0."""

    what: str
    total: int


@dataclass(frozen=True)
class Progressed(Event):
    """The progress of the stage ``what``: ``done`` of ``total`` steps.

    Attributes:
        seconds_left: Estimated seconds until the end of the stage; None if unknown.
    """

    done: int
    total: int
    what: str
    seconds_left: float | None = None


@dataclass(frozen=True, eq=False)
class SliceReady(Event):
    """The masks of one slice or frame.

    Attributes:
        index: Index along the axis of the job's view, or of the frame in its sequence.
        masks: uint8 ``(N, H, W)``, 0 or 1, oriented as the job's view; they belong to the receiver.
        confidence: float32 ``(N,)``, 0..1.
        final: Whether the masks are final; if not, the slice is sent again in case later slices change them.
    """

    index: int
    masks: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    final: bool


@dataclass(frozen=True, eq=False)
class FrameLookedAt(Event):
    """The end of a frame in time, segmented or skipped; sent after the frame's `SliceReady`.

    Attributes:
        index: Index of the frame.
        found: The result of the frame; None if it was skipped.
        reason: Why it was skipped.
    """

    index: int
    found: FrameResult | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class LabelsReady(Event):
    """The labels of one slice on which everything was found.

    Attributes:
        index: Index along the axis of the job's view.
        labels: 0 where nothing was found, uint16 ``(H, W)``, oriented as the job's view; they belong to the receiver.
    """

    index: int
    labels: npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Advanced(Event):
    """How far a task is that has more to say than a count; ``how`` is described where the task is."""

    how: Any


@dataclass(frozen=True)
class Forecasted(Event):
    """What the task will have taken at its end, measured on its first batches; sent again after a step down.

    Attributes:
        seconds: Duration from the task's beginning to its end.
        memory_bytes: Largest memory of the device, or of the whole process on a CPU.
        device: Where it is computed.
    """

    seconds: float
    memory_bytes: int
    device: str


@dataclass(frozen=True)
class Said(Event):
    """A message for the user, as a sentence."""

    text: str


@dataclass(frozen=True, eq=False)
class Finished(Event):
    """The end of a task without an error, also of a cancelled one; see the outcome's ``cancelled``."""

    outcome: Any


@dataclass(frozen=True, eq=False)
class Failed(Event):
    """The end of a task by an error.

    Attributes:
        error: A `ProxyPromptError` describes to the user what to do; any other error is a bug. Its traceback is
            removed, because it would keep all arrays of the task alive.
        trace: The traceback as text, for a bug report.
    """

    error: BaseException
    trace: str = ""


@dataclass(frozen=True)
class Dropped:
    """The outcome of a task that was cancelled or replaced before it began.

    Attributes:
        cancelled: Always True.
    """

    cancelled: bool = True
