"""What the worker thread says, as values: arrays and slice numbers, never nodes, so that any thread may read them.

Every task that is submitted ends with exactly one `Finished` or `Failed`, which is its last event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.results import FrameResult

__all__ = [
    "Dropped",
    "Event",
    "Failed",
    "Finished",
    "FrameLookedAt",
    "Progressed",
    "Said",
    "SliceReady",
    "StageStarted",
]


@dataclass(frozen=True)
class Event:
    """Something that a task says.

    Attributes:
        ticket: Number of the task, see `worker.Ticket`.
    """

    ticket: int


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage of ``total`` steps called ``what`` begins; counting starts at 0."""

    what: str
    total: int


@dataclass(frozen=True)
class Progressed(Event):
    """The stage ``what`` is at ``done`` of ``total``.

    Attributes:
        seconds_left: Until the end of the stage; None as long as nobody knows.
    """

    done: int
    total: int
    what: str
    seconds_left: float | None = None


@dataclass(frozen=True, eq=False)
class SliceReady(Event):
    """The mask of one slice or frame.

    Attributes:
        index: Along the axis of the job's view; the number of a frame in a sequence.
        masks: uint8 ``(N, H, W)``, 0 or 1, turned as the job's view; the receiver's own.
        confidence: float32 ``(N,)``, 0..1.
        final: False where slices that are still to come may change it; it is then sent again if they do.
    """

    index: int
    masks: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    final: bool


@dataclass(frozen=True, eq=False)
class FrameLookedAt(Event):
    """A frame in time was followed or skipped; it comes after the frame's `SliceReady`.

    Attributes:
        index: Number of the frame.
        found: What was found on it; None if it was skipped.
        reason: Why it was skipped.
    """

    index: int
    found: FrameResult | None
    reason: str = ""


@dataclass(frozen=True)
class Said(Event):
    """A sentence for the user."""

    text: str


@dataclass(frozen=True, eq=False)
class Finished(Event):
    """The task has ended, also after a cancel; see the outcome's ``cancelled``."""

    outcome: Any


@dataclass(frozen=True, eq=False)
class Failed(Event):
    """The task has ended by an error.

    Attributes:
        error: A `ProxyPromptError` is the user's to mend and its text is for them; anything else is a fault. Its
            traceback is taken off, because that would keep every array of the task alive.
        trace: The traceback as text, for a report of the fault.
    """

    error: BaseException
    trace: str = ""


@dataclass(frozen=True)
class Dropped:
    """Outcome of a task that was cancelled or replaced before it began.

    Attributes:
        cancelled: Always True.
    """

    cancelled: bool = True
