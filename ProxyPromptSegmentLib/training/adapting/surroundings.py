"""What an adaptation changes around itself while it runs: errors of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
