"""Where torch computes: finding a device, and saying in a sentence that its memory ran out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from ProxyPromptSegmentLib.errors import DeviceError
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind


def choose_device(name: str = "auto") -> torch.device:
    """Find the device to compute on.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        DeviceError: If the device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind = name.split(":", maxsplit=1)[0]
    other = Remedy(kind=RemedyKind.CHOOSE_DEVICE)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in there:
        raise DeviceError(f"there is no device '{name}'; there are {', '.join(there)}", other)
    if not there[kind]:
        raise DeviceError(f"PyTorch finds no {kind} device on this machine", other)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"the device '{name}' cannot be used: {error}", other) from error
    return device


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which a device computes in the types of its tensors.

    The device without storage, on which memory is estimated, has no autocast to be turned off.
    """
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


# Messages of PyTorch's allocators and CUDA's libraries that have no exception of their own: MPS, CPUs, cuBLAS.
_OUT_OF_MEMORY = (
    "out of memory", "not enough memory", "can't allocate memory", "_alloc_failed", "could not create a primitive",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out; only CUDA has its own exception for that."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None on systems without ``/proc``."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def memory_may_end(device: torch.device, said: str = "") -> Iterator[None]:
    """Convert an out-of-memory error into a DeviceError with advice.

    Args:
        device: The device whose memory may run out.
        said: What does not fit, with what to do about it; by default a frame, with the remedy for use.

    Raises:
        DeviceError: If it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if said:
            raise DeviceError(said) from error
        raise DeviceError(
            f"one frame with its memories does not fit into the memory of {device}",
            Remedy(kind=RemedyKind.SAVE_MEMORY, device=str(device)),
        ) from error
