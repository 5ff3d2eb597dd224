"""Arithmetic that does not diverge: channel norms in full precision also under autocast, and plain attention."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator

import torch
from torch import nn


def _full(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Normalise over channels, ``(B, C, h, w)``, as the packages' ``LayerNorm2d`` do."""
    with torch.autocast(x.device.type, enabled=False):
        y = x.float()
        mean = y.mean(1, keepdim=True)
        variance = (y - mean).square().mean(1, keepdim=True)
        y = (y - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * y + self.bias[:, None, None]


def keep_norms_in_full_precision(model: nn.Module) -> int:
    """Let every ``LayerNorm2d`` of a model compute in float32; return their number.

    The packages subtract means of bfloat16 values, whose rounding made all gradients infinite after some hundred steps.
    """
    norms = [module for module in model.modules() if type(module).__name__ == "LayerNorm2d"]
    for module in norms:
        module.forward = types.MethodType(_full, module)  # type: ignore[method-assign]
    return len(norms)


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Let attention on a GPU be computed by ordinary products.

    cuDNN's fused attention (PyTorch 2.11, H200) returned gradients that are not a number for the 16 to 128 tokens of
    the CCM, in every step; at this length the products are as fast.
    """
    cuda = torch.backends.cuda
    switches = [
        (cuda.enable_flash_sdp, cuda.flash_sdp_enabled()),
        (cuda.enable_mem_efficient_sdp, cuda.mem_efficient_sdp_enabled()),
    ]
    if hasattr(cuda, "enable_cudnn_sdp"):  # PyTorch 2.4 or newer
        switches.append((cuda.enable_cudnn_sdp, cuda.cudnn_sdp_enabled()))
    try:
        for switch, _ in switches:
            switch(False)
        yield
    finally:
        for switch, before in switches:
            switch(before)
