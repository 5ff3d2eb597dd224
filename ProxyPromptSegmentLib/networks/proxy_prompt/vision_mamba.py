"""Vision Mamba (Vim): the contextual encoder of the proxy prompt, on images with their masks as channels.

Tokens are kept time-major, ``(L, B, E)``: that is the scan's own order, so nothing is transposed between
the layers. Every block looks in both directions. Its backward branch owns convolution, step, rate and
skip weights ("v2") and reads a sequence that really is reversed; both branches run through one scan as
two groups.

Parameter names are those of the released Vim, so that its weights can be loaded by name.

References:
    Zhu et al., Vision Mamba (2024), section 3 and algorithm 1; Proxy Prompt, section 3, equation 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ProxyPromptSegmentLib.networks.devices import without_autocast
from ProxyPromptSegmentLib.networks.proxy_prompt.selective_scan import scan_time_major

__all__ = ["BidirectionalMixer", "VisionMamba", "VisionMambaBlock", "causal_depthwise"]

_STEP_MIN, _STEP_MAX, _STEP_FLOOR = 1e-3, 1e-1, 1e-4  # range of the initial step sizes, as in Mamba


class VisionMamba(nn.Module):
    """Vim without pooling: one embedding per patch.

    Args:
        img_size: Side of the images in training, in pixels; a multiple of ``patch_size``.
        patch_size: Side of a patch in pixels.
        in_chans: Input channels; image channels plus one mask.
        embed_dim: Channels of a token.
        depth: Number of blocks.
        d_state: States per inner channel.
        d_conv: Width of the causal convolution in tokens.
        expand: Inner channels per token channel.
        cls: ``"none"``, or ``"middle"`` for a class token in the middle of the sequence (it is not returned).
        head_classes: Outputs of a classification head that is never used here; it exists so that released
            weights load and the paper's parameter count can be reproduced. 0 for none.

    Raises:
        ValueError: If ``cls`` is unknown or ``img_size`` is not a multiple of ``patch_size``.
    """

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        in_chans: int = 4,
        embed_dim: int = 192,
        depth: int = 24,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        cls: str = "none",
        head_classes: int = 0,
    ) -> None:
        super().__init__()
        if cls not in ("none", "middle"):
            raise ValueError(f"cls is {cls!r}; allowed are 'none' and 'middle'.")
        if img_size % patch_size:
            raise ValueError(f"img_size {img_size} is not a multiple of patch_size {patch_size}; choose one that is.")
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.grid = img_size // patch_size
        self.patch_embed = PatchEmbedding(patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if cls == "middle" else None
        tokens = self.grid**2 + (self.cls_token is not None)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, embed_dim))
        self.layers = nn.ModuleList(VisionMambaBlock(embed_dim, d_state, d_conv, expand) for _ in range(depth))
        self.norm_f = RootMeanSquareNorm(embed_dim)
        self.head = nn.Linear(embed_dim, head_classes) if head_classes else None
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Encode images.

        Args:
            x: Images with masks; float, shape ``(B, in_chans, H, W)``, H and W multiples of the patch size.

        Returns:
            Embeddings in image order (row-major); shape ``(B, embed_dim, H / patch_size, W / patch_size)``.

        Raises:
            ValueError: If H or W is not a multiple of the patch size.
        """
        rows, columns = (side // self.patch_size for side in x.shape[-2:])
        tokens = self.forward_tokens(x)
        if self.cls_token is not None:
            middle = rows * columns // 2
            tokens = torch.cat([tokens[:middle], tokens[middle + 1 :]])
        return tokens.permute(1, 2, 0).unflatten(2, (rows, columns))

    def forward_tokens(self, x: Tensor) -> Tensor:
        """Encode images to normalised tokens, class token included; shape ``(L, B, embed_dim)``."""
        if x.shape[-2] % self.patch_size or x.shape[-1] % self.patch_size:
            raise ValueError(
                f"the image is {x.shape[-2]} x {x.shape[-1]} pixels; both sides must be multiples "
                f"of the patch size {self.patch_size}. Resize or pad the image."
            )
        patches = self.patch_embed(x)
        positions = self._positions(*patches.shape[-2:])
        tokens = patches.flatten(2).permute(2, 0, 1)
        if self.cls_token is not None:
            middle = tokens.shape[0] // 2
            token = self.cls_token.to(tokens.dtype).expand(1, tokens.shape[1], -1)
            tokens = torch.cat([tokens[:middle], token, tokens[middle:]])
        hidden, residual = tokens + positions.to(tokens.dtype), None
        for layer in self.layers:
            hidden, residual = layer(hidden, residual)
        residual = _at_least_float32(hidden) if residual is None else residual + hidden
        return self.norm_f(residual).to(hidden.dtype)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Return the position embeddings ``(L, 1, E)`` of a grid, resized bicubically from the trained one."""
        positions = self.pos_embed.transpose(0, 1)
        if (rows, columns) == (self.grid, self.grid):
            return positions
        token, middle = None, self.grid**2 // 2
        if self.cls_token is not None:
            token = positions[middle : middle + 1]
            positions = torch.cat([positions[:middle], positions[middle + 1 :]])
        image = positions.unflatten(0, (self.grid, self.grid)).permute(2, 3, 0, 1)
        image = functional.interpolate(image.float(), (rows, columns), mode="bicubic", align_corners=False)
        positions = image.flatten(2).permute(2, 0, 1)
        if token is not None:
            middle = rows * columns // 2
            positions = torch.cat([positions[:middle], token, positions[middle:]])
        return positions

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            nn.init.trunc_normal_(self.cls_token, std=0.02)
        if self.head is not None:
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)
        for name, parameter in self.named_parameters():
            if name.endswith("mixer.out_proj.weight"):
                # The residual stream sums `depth` branches: so their variance does not grow with the depth.
                with torch.no_grad():
                    parameter.div_(math.sqrt(len(self.layers)))


class PatchEmbedding(nn.Module):
    """Linear embedding of square patches: ``(B, C, H, W)`` to ``(B, E, H / patch, W / patch)``."""

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size)
        # lecun_normal: variance 1 / fan_in after truncation at two standard deviations.
        std = math.sqrt(1 / self.proj.weight[0].numel()) / 0.87962566103423978
        nn.init.trunc_normal_(self.proj.weight, std=std, a=-2 * std, b=2 * std)
        if self.proj.bias is not None:
            nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches."""
        return self.proj(x)


class RootMeanSquareNorm(nn.Module):
    """RMSNorm over the last axis, in float32."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each token to unit mean square."""
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return x * scale * self.weight


class VisionMambaBlock(nn.Module):
    """Add, norm, mixer: the residual stream stays in float32."""

    def __init__(self, embed_dim: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        self.mixer = BidirectionalMixer(embed_dim, d_state, d_conv, expand)
        self.norm = RootMeanSquareNorm(embed_dim)

    def forward(self, hidden: Tensor, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Add ``hidden`` to the residual stream and mix the normalised sum; both ``(L, B, E)``."""
        residual = _at_least_float32(hidden) if residual is None else residual + hidden
        return self.mixer(self.norm(residual).to(hidden.dtype)), residual


class BidirectionalMixer(nn.Module):
    """Mamba in both directions ("v2"): shared in-projection, gate and out-projection, all between separate.

    Args:
        embed_dim: Channels of a token.
        d_state: States per inner channel.
        d_conv: Width of the causal convolution.
        expand: Inner channels per token channel.
    """

    # Made in a loop over the directions, under the released model's names.
    conv1d: nn.Conv1d
    conv1d_b: nn.Conv1d
    x_proj: nn.Linear
    x_proj_b: nn.Linear
    dt_proj: nn.Linear
    dt_proj_b: nn.Linear
    A_log: nn.Parameter
    A_b_log: nn.Parameter
    D: nn.Parameter
    D_b: nn.Parameter

    def __init__(self, embed_dim: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        inner, self.rank = expand * embed_dim, math.ceil(embed_dim / 16)
        self.inner, self.d_state = inner, d_state
        self.in_proj = nn.Linear(embed_dim, 2 * inner, bias=False)
        for end in ("", "_b"):
            self.add_module("conv1d" + end, nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1))
            self.add_module("x_proj" + end, nn.Linear(inner, self.rank + 2 * d_state, bias=False))
            self.add_module("dt_proj" + end, _step_projection(self.rank, inner))
            # S4D-real: the rates -1 ... -n in every channel.
            rates = torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(inner, 1)
            self.register_parameter("A_b_log" if end else "A_log", nn.Parameter(rates))
            self.register_parameter("D" + end, nn.Parameter(torch.ones(inner)))
        self.out_proj = nn.Linear(inner, embed_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix tokens ``(L, B, E)`` along L in both directions; same shape."""
        x, gate = self.in_proj(tokens).chunk(2, dim=-1)
        both = torch.stack([x, x.flip(0)], dim=2)
        filtered = functional.silu(causal_depthwise(both, *self._filters()))
        features = _per_direction(filtered, (self.x_proj.weight, self.x_proj_b.weight))
        with without_autocast(tokens.device):
            values, features = _at_least_float32(filtered), _at_least_float32(features)
            kind = values.dtype
            low, weight_in, weight_out = features.split([self.rank, self.d_state, self.d_state], dim=-1)
            projections = (self.dt_proj, self.dt_proj_b)
            step = _per_direction(low, [p.weight.to(kind) for p in projections], [p.bias.to(kind) for p in projections])
            rates = -torch.stack([self.A_log, self.A_b_log]).to(kind).exp()
            y = scan_time_major(values, functional.softplus(step), rates, weight_in, weight_out)
            y = torch.addcmul(y, values, torch.stack([self.D, self.D_b]).to(kind))
            forward, backward = y.unbind(2)
            y = (forward + backward.flip(0)) * (0.5 * functional.silu(gate.to(kind)))
        return self.out_proj(y.to(gate.dtype))

    def _filters(self) -> tuple[Tensor, Tensor]:
        convolutions = (self.conv1d, self.conv1d_b)
        biases = torch.stack([c.bias for c in convolutions if c.bias is not None])
        return torch.stack([c.weight.squeeze(1) for c in convolutions]), biases


def _per_direction(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None] = (None, None)) -> Tensor:
    """Apply one linear map per direction; ``(L, B, 2, in)`` to ``(L, B, 2, out)``."""
    return torch.stack([functional.linear(*both) for both in zip(x.unbind(2), weights, biases, strict=True)], dim=2)


def causal_depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve every channel along time with its own causal filter.

    Args:
        x: Shape ``(L, ..., D)``.
        weight: Filters, the present last; shape ``(..., D, width)``.
        bias: Shape ``(..., D)``.

    Returns:
        Shape of ``x``.
    """
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    return _CausalDepthwise.apply(x.contiguous(), weight.movedim(-1, 0).contiguous(), bias)


class _CausalDepthwise(torch.autograd.Function):
    """A sum of shifted products of contiguous rows; autograd's slices would write a full tensor per tap."""

    @staticmethod
    def forward(ctx, x, taps, bias):
        ctx.save_for_backward(x, taps)
        last = taps.shape[0] - 1
        y = torch.addcmul(bias, x, taps[last])
        for delay in range(1, min(last + 1, x.shape[0])):
            y[delay:].addcmul_(x[:-delay], taps[last - delay])
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, taps = ctx.saved_tensors
        last = taps.shape[0] - 1
        grad_x, grad_taps = grad * taps[last], torch.zeros_like(taps)
        outer = tuple(range(grad.dim() - taps.dim() + 1))
        grad_taps[last] = (grad * x).sum(outer)
        for delay in range(1, min(last + 1, x.shape[0])):
            grad_x[:-delay].addcmul_(grad[delay:], taps[last - delay])
            grad_taps[last - delay] = (grad[delay:] * x[:-delay]).sum(outer)
        return grad_x, grad_taps, grad.sum(outer)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _step_projection(rank: int, inner: int) -> nn.Linear:
    """Return the projection to step sizes, whose bias makes them start log-uniform in [1e-3, 1e-1] after softplus.

    The released Vim leaves the backward branch's projection at torch's default with a zero bias: a step of
    0.69, so a short memory. Here both branches start alike.
    """
    layer = nn.Linear(rank, inner)
    nn.init.uniform_(layer.weight, -(rank**-0.5), rank**-0.5)
    draw = torch.rand(inner) * (math.log(_STEP_MAX) - math.log(_STEP_MIN)) + math.log(_STEP_MIN)
    step = draw.exp().clamp(min=_STEP_FLOOR)
    with torch.no_grad():
        layer.bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
    return layer
