"""Training time that two methods can be given equally."""

from __future__ import annotations

import time

import torch


def training_clock(device: torch.device) -> float:
    """Seconds since some moment.

    On a CPU those that this process computed, divided by its threads: what other programs on the machine take
    away does not count. Elsewhere seconds of the wall.
    """
    if device.type == "cpu":
        return time.process_time() / torch.get_num_threads()
    return time.monotonic()
