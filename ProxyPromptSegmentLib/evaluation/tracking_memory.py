"""Measurement of memory growth over a long sweep, on an endless synthetic sweep."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.networks.values import PreparedSupport

WINDOW = (0.0, 255.0)


def sweep_frame(index: int, side: int = 256, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return one frame of an endless synthetic sweep: a dark, pulsating and drifting vessel in speckle.

    Args:
        index: Index of the frame; frames do not depend on each other.
        side: Number of rows and of columns.
        seed: Random seed; each one gives another sweep.

    Returns:
        Image in 0..255, float32 ``(side, side)``, and mask uint8 ``(1, side, side)``.
    """
    rng = np.random.default_rng([seed, index])
    y, x = np.mgrid[:side, :side]
    phase = 2 * math.pi * index / 25 + seed
    row, column = side * (0.5 + 0.1 * math.sin(phase / 4)), side * (0.5 + 0.15 * math.cos(phase / 6))
    radius = side * (0.14 + 0.015 * math.sin(phase))
    mask = ((y - row) ** 2 + (x - column) ** 2 < radius**2).astype(np.uint8)
    speckle = rng.rayleigh(1.0, (side, side))
    image = np.clip(np.where(mask, 18.0, 80.0) * speckle, 0, 255).astype(np.float32)
    return image, mask[None]


def watch_memory(segmenter: Segmenter, prepared: PreparedSupport, frames: int, every: int, side: int) -> dict[str, Any]:
    """Track a long sweep whose frames are generated and discarded one by one, and sample the memory in use.

    Returns:
        Resident memory in MiB after every ``every`` frames: first, last, highest and slope; and the bytes in the memory
        banks at the first sample and at the end. Values that the system does not provide are None.
    """
    import torch

    from ProxyPromptSegmentLib.tracking.tracker import Tracker

    tracker = Tracker(segmenter)
    tracker.start(prepared, WINDOW)
    cuda = segmenter.device.type == "cuda"
    counts, resident, device, banks = [], [], [], []
    for index in range(frames):
        tracker.step(sweep_frame(index, side)[0])
        if (index + 1) % every == 0:
            counts.append(index + 1)
            resident.append(resident_mib())
            device.append(torch.cuda.memory_allocated(segmenter.device) / 2**20 if cuda else None)
            banks.append(bank_bytes(tracker))
    return {
        "frames": frames,
        "looks_at": counts,
        "resident_mib": _course(counts, resident),
        "device_mib": _course(counts, device),
        "bank_bytes": {"first": banks[0], "last": banks[-1]} if banks else None,
    }


def _course(counts: list[int], values: list[float | None]) -> dict[str, Any] | None:
    """Return first, last and highest value, and the slope by least squares; None if a value is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    slope = float(np.polyfit(counts, known, 1)[0]) if len(known) > 1 else None
    return {
        "values": [round(value, 2) for value in known],
        "first": round(known[0], 2),
        "last": round(known[-1], 2),
        "peak": round(max(known), 2),
        "slope_per_100_frames": None if slope is None else round(100 * slope, 4),
    }


def resident_mib() -> float | None:
    """Return the resident memory of this process in MiB; on systems without ``/proc`` the peak so far, or None."""
    from ProxyPromptSegmentLib.networks.devices import resident_bytes

    now = resident_bytes()
    if now is not None:
        return now / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def bank_bytes(tracker: Any) -> int:
    """Return the bytes of all tensors in the tracker's memory banks, each storage counted once and in full."""
    import torch

    from ProxyPromptSegmentLib.tracking.memory_bank import MemoryBank

    banks = [part for part in _parts(list(vars(tracker).values())) if isinstance(part, MemoryBank)]
    tensors = [part for part in _parts(banks) if isinstance(part, torch.Tensor)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def _parts(things: Iterable[Any]) -> Iterator[Any]:
    """Yield everything reachable through collections and our own objects, except models."""
    import torch

    stack, seen = list(things), set()
    while stack:
        thing = stack.pop()
        if id(thing) in seen or isinstance(thing, torch.nn.Module):
            continue
        seen.add(id(thing))
        yield thing
        if isinstance(thing, dict):
            stack += thing.values()
        elif isinstance(thing, list | tuple | set | frozenset):
            stack += thing
        elif type(thing).__module__.startswith("ProxyPromptSegmentLib") and hasattr(thing, "__dict__"):
            stack += vars(thing).values()
