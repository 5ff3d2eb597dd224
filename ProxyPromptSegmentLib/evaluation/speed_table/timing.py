"""Timing of calls in turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

PROCESSOR, WALL = "processor", "wall"
"""Processor time of all threads of the process, which other load does not count towards; wall-clock time."""

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Timed:
    """The times of one call.

    Attributes:
        wall: Wall-clock seconds of each repetition, ``(R,)``.
        processor: Processor seconds of each repetition, ``(R,)``.
    """

    wall: Seconds
    processor: Seconds

    def of(self, clock: str) -> Seconds:
        """Return the seconds of one clock."""
        return self.processor if clock == PROCESSOR else self.wall


def clock_of(device: torch.device) -> str:
    """Return the clock that ratios are made of: a graphics card does not compute in processor time."""
    return PROCESSOR if device.type == "cpu" else WALL


def in_turns(calls: Sequence[Callable[[], object]], repeats: int, device: torch.device) -> list[Timed]:
    """Time calls alternately, A B C A B C, after one warm-up of each.

    Args:
        calls: What is timed.
        repeats: Number of rounds.
        device: Where they compute; its work is awaited at the end of each call.
    """
    import torch

    def timed(call: Callable[[], object]) -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter() - wall, time.process_time() - processor

    for call in calls:
        timed(call)
    rounds = np.array([[timed(call) for call in calls] for _ in range(repeats)])
    return [Timed(rounds[:, number, 0], rounds[:, number, 1]) for number in range(len(calls))]


def load() -> float | None:
    """Return how many processes wanted a core in the last minute; None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # Windows
        return None
