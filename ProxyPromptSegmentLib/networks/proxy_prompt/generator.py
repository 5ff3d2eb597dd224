"""The Proxy Prompt Generator: support pairs and a target become a prompt.

References:
    Proxy Prompt, section 3, Fig. 2: Contextual Selective Module, then Contextual Colorization Module.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.networks.proxy_prompt.bridge import BridgeUnit
from ProxyPromptSegmentLib.networks.proxy_prompt.colorization import ContextualColorization
from ProxyPromptSegmentLib.networks.proxy_prompt.config import ProxyPromptConfig
from ProxyPromptSegmentLib.networks.proxy_prompt.contextual_encoders import build_contextual_encoder
from ProxyPromptSegmentLib.networks.proxy_prompt.kinship import Kinship, statistics
from ProxyPromptSegmentLib.networks.proxy_prompt.support_reading import SupportReading
from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedSupport, Prompt


class DensePrompt(nn.Module):
    """A dense prompt from F_x, E_ctx and the mask prior: a departure for the compact model (see its card)."""

    def __init__(self, channels: int, width: int) -> None:
        """Create two convolutions; the last starts near zero, so that training starts from the sparse prompt."""
        super().__init__()
        self.mix = nn.Conv2d(2 * channels + 1, width, 1)
        self.out = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: torch.Tensor, context: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """Compute the dense prompt of ``B`` targets and ``N`` objects.

        The first convolution is one of single positions, so that its three inputs are projected apart: the features
        once for all objects, the context as the rows that it is read as.

        Args:
            features: F_x, ``(B, C, g, g)``.
            context: E_ctx, ``(B, N, P, C)``.
            prior: The mask prior, ``(B, N, P)``.

        Returns:
            ``(B, N, C, g, g)``.
        """
        channels, side = features.shape[1], features.shape[-1]
        weight = self.mix.weight[:, :, 0, 0]
        own, read, prior_weight = weight[:, :channels], weight[:, channels:-1], weight[:, -1]
        seen = functional.linear(features.flatten(2).transpose(1, 2), own, self.mix.bias).unsqueeze(1)
        mixed = torch.addcmul(functional.linear(context, read) + seen, prior.unsqueeze(-1), prior_weight)
        maps = functional.gelu(mixed).flatten(0, 1).unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return self.out(maps).unflatten(0, tuple(context.shape[:2]))


class ProxyPromptGenerator(nn.Module):
    """CSM and CCM with their support side kept apart from their target side.

    Attributes:
        config: The choices; kept in the checkpoint.
    """

    def __init__(self, config: ProxyPromptConfig) -> None:
        """Create the modules with random weights."""
        super().__init__()
        self.config = config
        self.contextual_encoder = build_contextual_encoder(config)
        self.bridge = BridgeUnit(
            config.channels,
            self.contextual_encoder.embed_dim,
            config.bridge_width,
            config.cbam_residual,
            config.inter_object,
        )
        self.colorization = (
            ContextualColorization(
                config.grid // config.ccm_pool,
                config.channels,
                config.ccm_width,
                config.ccm_blocks,
                config.ccm_heads,
                config.ccm_ffn,
                config.reduce,
            )
            if config.ccm
            else None
        )
        dense = config.prompt not in ("sparse", "memory")
        self.dense = DensePrompt(config.channels, config.bridge_width) if dense else None
        self.presence = (
            nn.Sequential(nn.Linear(4 * config.channels + 1, config.channels), nn.GELU(), nn.Linear(config.channels, 1))
            if config.presence
            else None
        )
        self.kinship = Kinship(config.channels) if config.kinship else None
        # A tenth of the coordinate's factor, so that a step of the optimiser changes it as it changes the features.
        self.depth_scale = nn.Parameter(torch.tensor(0.3)) if config.depth else None

    def prepare(
        self, features: ImageFeatures, images: torch.Tensor, masks: torch.Tensor, names: tuple[str, ...] = ()
    ) -> PreparedSupport:
        """Compute the support side (rows 2-6 of the method's table).

        Args:
            features: Embedded support images, ``K`` of them.
            images: The same images in 0..1, ``(K, 3, size, size)``.
            masks: 0 or 1, ``(K, N, size, size)``.
            names: The ``N`` objects.
        """
        supports, objects = masks.shape[:2]
        repeated = images.unsqueeze(1).expand(-1, objects, -1, -1, -1)
        # SAM's images are centred for its encoder; this one sees the same windowed image, centred, and the mask.
        joined = torch.cat([(repeated - 0.5) / 0.25, masks.unsqueeze(2)], dim=2).flatten(0, 1)
        context = self.contextual_encoder(joined).unflatten(0, (supports, objects))
        aggregated = self.bridge(features.top, context)
        pool = self.config.key_pool
        occupancy = functional.adaptive_avg_pool2d(masks, self.config.grid // pool)
        keys, valid = features.top, features.valid
        if pool > 1:
            keys = functional.avg_pool2d(keys, pool)
            aggregated = functional.avg_pool2d(aggregated.flatten(0, 1), pool).unflatten(0, (supports, objects))
            valid = functional.max_pool2d(valid.float().unsqueeze(1), pool)[:, 0] > 0
        return PreparedSupport(
            features=keys.flatten(2),
            aggregated=aggregated.flatten(3),
            occupancy=occupancy.flatten(2),
            valid=valid.flatten(1),
            depth=features.depth,
            names=names,
        )

    def context(
        self, features: ImageFeatures, support: PreparedSupport, chosen: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read the contextual embedding through the Selective Map (Eqs. 6-7).

        Args:
            features: ``B`` embedded targets.
            support: The prepared supports.
            chosen: Indices of the supports that each target reads, ``(B, k)``; None means all of them.

        Returns:
            E_ctx ``(B, N, P, C)`` and the mask prior ``(B, N, P)``.
        """
        objects, channels = support.aggregated.shape[1:3]
        target, reading = self._reading(features, support)
        read = rearrange(reading.read(target, chosen), "b p (n c) -> b n p c", n=objects)
        return read[..., :channels].contiguous(), read[..., channels].contiguous()

    def _reading(self, features: ImageFeatures, support: PreparedSupport) -> tuple[torch.Tensor, SupportReading]:
        """Return the targets' coordinates, and the supports as they are read."""
        target, keys = self._coordinates(features, support)
        width = features.top.shape[1]
        return target, SupportReading(
            config=self.config, keys=keys, support=support, width=width, training=self.training
        )

    def _coordinates(self, features: ImageFeatures, support: PreparedSupport) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the coordinates that Eq. 6 compares, ``(B, C, P)`` and ``(K, C, P)``; the depth is one where known."""
        target, keys = features.top.flatten(2), support.features
        if self.depth_scale is None or features.depth is None or support.depth is None:
            return target, keys
        factor = 10 * self.depth_scale.float()
        here = (factor * features.depth).view(-1, 1, 1).expand(-1, 1, target.shape[2])
        there = (factor * support.depth).view(-1, 1, 1).expand(-1, 1, keys.shape[2])
        return torch.cat([target.float(), here], dim=1), torch.cat([keys.float(), there], dim=1)

    def prompt(self, features: ImageFeatures, support: PreparedSupport, chosen: torch.Tensor | None = None) -> Prompt:
        """Compute the proxy prompt of ``B`` targets and ``N`` objects; arguments as in `context`."""
        context, prior = self.context(features, support, chosen)
        batch, objects = context.shape[:2]
        side = features.top.shape[-1]
        pool, small = self.config.ccm_pool, side // self.config.ccm_pool
        seen_x, seen_e = features.top, rearrange(context, "b n (h w) c -> (b n) c h w", h=side)
        encoding = features.positions
        if pool > 1:
            seen_x, seen_e, encoding = (functional.avg_pool2d(part, pool) for part in (seen_x, seen_e, encoding))
        small_x = seen_x.flatten(2).transpose(1, 2)
        small_e = seen_e.flatten(2).transpose(1, 2)
        if self.config.positions == "sam_dense":
            where = encoding.flatten(1).transpose(0, 1)
            small_x, small_e = small_x + where, small_e + where
        proxy = self._colorize(small_x, small_e, small)
        proxy = proxy.unflatten(0, (batch, objects))
        prior_map = prior.unflatten(-1, (side, side))
        prior_seen = prior_map if self.config.mask_prior else torch.zeros_like(prior_map)
        dense = None
        if self.dense is not None:
            dense = self.dense(features.top, context, prior_seen.flatten(2))
        presence = None
        if self.presence is not None:
            own = features.top.flatten(2)
            seen = torch.cat([own.mean(2), own.amax(2)], dim=-1).unsqueeze(1).expand(-1, objects, -1)
            asked = torch.cat([proxy.mean(2), proxy.amax(2), prior.amax(-1, keepdim=True)], dim=-1)
            summary = torch.cat([seen, asked], dim=-1)
            presence = self.presence(summary)[..., 0]
            # It is fitted on images as they are, and would take augmented ones for another kind.
            if self.kinship is not None and not self.training:
                presence = presence + self._kinship(features, support, chosen).unsqueeze(1)
        return Prompt(
            sparse=proxy if self.config.prompt in ("sparse", "both", "memory_and_both") else None,
            dense=dense,
            memory=proxy if self.config.for_memory else None,
            presence=presence,
            prior=prior_map if self.config.mask_prior else None,
            names=support.names,
        )

    def _kinship(self, features: ImageFeatures, support: PreparedSupport, chosen: torch.Tensor | None) -> torch.Tensor:
        """Return the logit ``(B,)`` of kinship; arguments as in `context`."""
        assert self.kinship is not None
        target = statistics(features.top.flatten(2), features.valid.flatten(1))
        if "statistics" not in support.kept:
            support.kept["statistics"] = statistics(support.features, support.valid)
        supports = support.kept["statistics"]
        if chosen is None:
            chosen = torch.arange(len(supports), device=supports.device).expand(len(target), -1)
        return self.kinship(target, supports[chosen], chosen >= 0)

    def _colorize(self, features: torch.Tensor, context: torch.Tensor, side: int) -> torch.Tensor:
        """Apply the CCM, or the paper's ablation without it: E_ctx pooled to as many tokens."""
        if self.colorization is not None:
            return self.colorization(features, context, (side, side))
        small = side // 2 ** (self.config.ccm_blocks // 2)
        pooled = functional.adaptive_avg_pool2d(rearrange(context, "b (h w) c -> b c h w", h=side), small)
        return pooled.flatten(2).transpose(1, 2)

    def why(self, features: ImageFeatures, support: PreparedSupport, positions: torch.Tensor) -> torch.Tensor:
        """Return the weights of the support positions for the prediction at some target positions.

        Args:
            features: One embedded target.
            support: The prepared supports.
            positions: Row-major indices of the target grid, ``(Q,)``.

        Returns:
            Weights ``(Q, K, g, g)``; each target position's sum to 1.
        """
        target, reading = self._reading(features, support)
        side, pool = features.top.shape[-1], self.config.key_pool
        small = side // pool
        weights = reading.weights(target[0], positions).unflatten(2, (small, small))
        # A pooled key's weight belongs to all of its positions in equal parts.
        return weights.repeat_interleave(pool, -2).repeat_interleave(pool, -1) / pool**2
