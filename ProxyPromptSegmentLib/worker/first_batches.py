"""What a run takes, estimated by timing its first batches: the time from its beginning to its end, and its memory.

The first batch also pays for what every run does once; the second one says what a look at a slice takes. A structure
that is looked at closer costs its slice a second look of the same kind, so that looks are counted and not slices.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ProxyPromptSegmentLib.inference.volume_result import Forecast
from ProxyPromptSegmentLib.networks.devices import resident_bytes

TIMED = 2
"""The batch that is timed, counted from 1."""


def peak_bytes(device: str = "cpu") -> int | None:
    """Return the largest memory so far, of a CUDA device or else of this process; None where it is not known."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_reserved(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class FirstBatches:
    """Times the first batches of a run.

    Attributes:
        begun: When the task began, by the clock.
        forecast: What the run takes; None before the batch that is timed has ended.
    """

    def __init__(self, begun: float, clock: Callable[[], float] = time.perf_counter) -> None:
        """Wait for the first batch.

        Args:
            begun: When the task began, by the clock.
            clock: Returns the time in seconds.
        """
        self.begun, self._clock = begun, clock
        self._batches = 0
        self._last = begun
        self.forecast: Forecast | None = None

    def start(self) -> None:
        """Begin the first batch."""
        self._last = self._clock()

    def finished(self, looks: int, left: int, growth: int, device: str = "cpu") -> Forecast | None:
        """Count a batch; make the forecast when the one that is timed has ended, and return it then.

        Args:
            looks: Looks at slices in this batch.
            left: Looks that are expected in all later batches.
            growth: Bytes that later batches and the end add to the memory in use.
            device: Where the run is computed.
        """
        now = self._clock()
        each, self._last = (now - self._last) / max(1, looks), now
        self._batches += 1
        if self._batches != TIMED:
            return None
        highest = peak_bytes(device) or 0
        held = highest if device.startswith("cuda") else resident_bytes() or highest
        self.forecast = Forecast(now - self.begun + left * each, max(highest, held + growth), left)
        return self.forecast
