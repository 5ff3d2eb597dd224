"""A clock for training time that treats two methods equally."""

from __future__ import annotations

import time

import torch


def training_clock(device: torch.device) -> float:
    """Return training time in seconds since an arbitrary moment.

    On a CPU it is the process time divided by the number of threads, so that other load on the machine does not
    count. On other devices it is wall-clock time.
    """
    if device.type == "cpu":
        return time.process_time() / torch.get_num_threads()
    return time.monotonic()
