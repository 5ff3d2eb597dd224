"""What the devices of this machine offer: which are tried, in which half precision, and their memory given back."""

from __future__ import annotations

import gc

import torch

from ProxyPromptSegmentLib.networks.devices import choose_device


def devices_to_try(device: str) -> tuple[str, ...]:
    """Return the devices to try for a requested one, in order: that one, then the CPU."""
    chosen = str(choose_device(device))
    return (chosen,) if chosen == "cpu" else (chosen, "cpu")


def half_type_of(device: str) -> torch.dtype | None:
    """Return the half precision type of a device; None if it supports none."""
    kind = torch.device(device).type
    if kind == "cuda":
        # bfloat16 has the range of float32; large encoders sometimes exceed the range of float16.
        return torch.bfloat16 if _has_bfloat16() else torch.float16
    available = getattr(torch.amp, "is_autocast_available", None)  # since PyTorch 2.4; before, MPS had no autocast
    return torch.float16 if kind == "mps" and available is not None and available("mps") else None


def fast_in_half(device: str) -> bool:
    """Return whether a device computes in bfloat16 itself, faster than in single precision.

    Older graphics cards have float16 alone, in which masks were not measured and some cards are many times slower.
    """
    return device.startswith("cuda") and _has_bfloat16()


def _has_bfloat16() -> bool:
    """Return whether the GPU itself computes in bfloat16."""
    try:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    except TypeError:  # before PyTorch 2.5, which counts no emulation either
        return torch.cuda.is_bf16_supported()


def empty_cache(device: str) -> None:
    """Return PyTorch's reserved memory to the GPU."""
    gc.collect()
    kind = device.split(":", maxsplit=1)[0]
    if kind == "cuda" and torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()
