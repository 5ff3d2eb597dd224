"""What an adaptation changes around itself while it runs, and puts back: threads, chance, and errors of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ProxyPromptSegmentLib.errors import DeviceError
from ProxyPromptSegmentLib.networks.devices import is_out_of_memory
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind


@contextmanager
def enough_memory(device: str) -> Iterator[None]:
    """Convert an out-of-memory error into a DeviceError.

    Raises:
        DeviceError: If it is one.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        remedy = Remedy(kind=RemedyKind.SAVE_MEMORY, device="" if device == "auto" else device)
        raise DeviceError("a step of the training does not fit into the memory", remedy) from error


@contextmanager
def computing_with(count: int) -> Iterator[None]:
    """Compute with so many threads, on which the last digits depend; leave number and chance as they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)
