"""The trunk of a model that only predicts: norms folded into convolutions, channels last in memory.

A norm with stored statistics is a scale and a shift of each channel, which the convolution before it can hold (Jacob et
al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018, Eq. 14). The
result is the trunk's up to rounding, in less time (`Docs/results/speed.md`). A folded trunk has other tensors than a
checkpoint and cannot be trained or stored: a model is folded after it was loaded, and by nothing that writes it.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ProxyPromptSegmentLib.networks.efficientnet_lite import EfficientNetLite0, InvertedResidual, SeparableBlock

_PAIRS: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    EfficientNetLite0: (("conv_stem", "bn1"),),
    SeparableBlock: (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    InvertedResidual: (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}


def fold_norms(model: nn.Module) -> bool:
    """Fold the norms of a model's EfficientNet trunks, in place; return whether there was one to fold."""
    folded = False
    for trunk in [module for module in model.modules() if isinstance(module, EfficientNetLite0)]:
        for module in list(trunk.modules()):
            for convolution, norm in _PAIRS.get(type(module), ()):
                if isinstance(getattr(module, norm), nn.Identity):
                    continue  # a model that was folded before
                _fold(getattr(module, convolution), getattr(module, norm))
                setattr(module, norm, nn.Identity())
                folded = True
        trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return folded


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give a convolution the norm's scale and shift, in place: a copy of each would take a tenth of a start."""
    with torch.no_grad():
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
