"""Activations that are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from torch import nn
from torch.utils.checkpoint import checkpoint

Answer = TypeVar("Answer")


def encoder_blocks(backbone: nn.Module) -> list[nn.Module]:
    """Return the blocks of a backbone's image encoder: of SAM's ViT or SAM 2's Hiera; none of a compact encoder."""
    for path in ("sam.image_encoder.blocks", "sam2.image_encoder.trunk.blocks"):
        found: object = backbone
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, nn.ModuleList):
            return list(found)
    return []


@contextmanager
def recomputed(blocks: list[nn.Module]) -> Iterator[None]:
    """Let modules keep their inputs alone: what is called within the context is computed again for its gradient.

    Args:
        blocks: The modules, each called with tensors.
    """
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # that of its class is again what is called


def again(compute: Callable[[], Answer]) -> Answer:
    """Compute something now, and again when its gradient is asked for."""
    return checkpoint(compute, use_reentrant=False)
