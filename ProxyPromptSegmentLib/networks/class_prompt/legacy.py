"""The class prompt encoder as the authors' public code intends it, built from its description.

Mended: the two prompts are returned in the order in which they are read, a batch of one keeps its axis, and the noise
in use is seeded, so that an image gives the same mask twice. Kept: the class is a number, the noise shrinks with the
step and the map of the class is added at each step.

References:
    Huang et al., Diffusion-empowered AutoPrompt MedSAM, arXiv:2502.06817.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.networks.class_prompt.config import ClassPromptConfig
from ProxyPromptSegmentLib.networks.class_prompt.diffusion import ClassPrompts, seeded_noise

FINE, MIDDLE, COARSE = 64, 128, 256


def _twice(incoming: int, between: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, between, 3, padding=1), nn.ReLU(), nn.Conv2d(between, width, 3, padding=1), nn.ReLU()
    )


class LegacyBranch(nn.Module):
    """One of the two decoders, with skip connections at a constant resolution."""

    def __init__(self, channels: int) -> None:
        """Create the branch; its output has ``channels``."""
        super().__init__()
        self.gate = nn.Conv2d(MIDDLE + 1, MIDDLE, 1)
        self.first = _twice(2 * MIDDLE, MIDDLE, FINE)
        self.second = _twice(2 * FINE, FINE, channels)

    def forward(self, gated: torch.Tensor, fine: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
        """Return ``(M, channels, g, g)``."""
        return self.second(torch.cat([self.first(torch.cat([gated, middle], 1)), fine], 1))


class LegacyClassEncoder(nn.Module):
    """The authors' class prompt encoder; the interface is that of `DiffusionClassEncoder`."""

    def __init__(self, config: ClassPromptConfig) -> None:
        """Create the encoder with random weights."""
        super().__init__()
        self.config = config
        self.label = nn.Linear(1, config.grid * config.grid)
        self.fine = _twice(config.channels + 1, FINE, FINE)
        self.middle = _twice(FINE, MIDDLE, MIDDLE)
        self.coarse = _twice(MIDDLE, COARSE, MIDDLE)
        self.sparse = LegacyBranch(config.channels)
        self.dense = LegacyBranch(config.channels)

    def noise_variance(self) -> float:
        """Return the variance of the noise of all steps together: the sum of ``1 / (t + 1)**2`` for ``t`` from 1."""
        return sum(1.0 / (step + 1) ** 2 for step in range(1, self.config.steps + 1))

    def forward(
        self,
        top: torch.Tensor,
        positions: torch.Tensor,  # noqa: ARG002 - the other encoder's signature
        classes: torch.Tensor,
        drawn: int | None = None,
    ) -> ClassPrompts:
        """Return the prompts of ``N`` classes on each of ``B`` images; see `DiffusionClassEncoder.forward`.

        Args:
            top: Image embeddings ``(B, C, g, g)``.
            positions: Not read.
            classes: Numbers of the classes, ``(B, N)``.
            drawn: How many of the classes get a prompt, the first ones; None means all.
        """
        classes = classes if drawn is None else classes[:, :drawn]
        batch, number = classes.shape
        label = self.label(classes.to(top.dtype).view(-1, 1)).view(-1, 1, *top.shape[-2:])
        # Independent noise of all steps has the distribution of one draw of their variance.
        noise = torch.randn_like(top) if self.training else seeded_noise(top)
        noised = (top + self.noise_variance() ** 0.5 * noise).repeat_interleave(number, 0) + self.config.steps * label
        fine = self.fine(torch.cat([noised, label], 1))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        known = torch.cat([coarse, label], 1)
        dense = self.dense(coarse * self.dense.gate(known), fine, middle)
        pooled = functional.adaptive_avg_pool2d(known, 1)
        sparse = self.sparse(coarse * self.sparse.gate(pooled).sigmoid(), fine, middle)
        tokens = functional.adaptive_avg_pool2d(sparse, (2, 1)).flatten(2).transpose(1, 2)
        return ClassPrompts(sparse=tokens.unflatten(0, (batch, number)), dense=dense.unflatten(0, (batch, number)))
