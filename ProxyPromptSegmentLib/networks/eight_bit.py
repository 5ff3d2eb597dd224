"""Weights in 8 bits for the file: each output channel has its own factor; in memory they are float32 as ever."""

from __future__ import annotations

import torch

SCALE = ".scale"  # added to a tensor's name for its factors
SMALLEST = 2048  # values below which a tensor stays as it is: norms, biases, embeddings
LARGEST_VALUE = 127


def to_eight_bit(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Store large float tensors as int8 with a float32 factor for each row of their first axis.

    Args:
        tensors: Named tensors, as in a state dict.

    Returns:
        The same names, and for every tensor that was converted its factors under its name with `SCALE`.
    """
    stored: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        if not value.is_floating_point() or value.ndim < 2 or value.numel() < SMALLEST:
            stored[name] = value
            continue
        rows = value.detach().float().flatten(1)
        scale = rows.abs().amax(1, keepdim=True) / LARGEST_VALUE
        steps = torch.where(scale > 0, rows / scale.clamp(min=torch.finfo(torch.float32).tiny), 0.0)
        stored[name] = steps.round().to(torch.int8).view(value.shape)
        stored[name + SCALE] = scale[:, 0].contiguous()
    return stored


def from_eight_bit(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Undo `to_eight_bit`; tensors that were not converted stay as they are.

    Raises:
        ValueError: If factors are missing or do not fit their tensor.
    """
    restored: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        if name.endswith(SCALE) and name[: -len(SCALE)] in tensors:
            continue
        if value.dtype == torch.int8:
            scale = tensors.get(name + SCALE)
            if scale is None or scale.shape != value.shape[:1]:
                raise ValueError(f"the tensor {name} is stored in 8 bits, and its factors are missing or do not fit")
            value = value.float() * scale.float().view(-1, *([1] * (value.ndim - 1)))
        restored[name] = value
    return restored
