"""Segment Anything as a backbone: the package's own modules, official sizes and a compact one.

References:
    Kirillov et al., Segment Anything, 2023; the packages' ``build_sam.py`` for the official sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.backbones.network_packages import segment_anything_modeling
from ProxyPromptSegmentLib.networks.backbones.token_decoder import can_decode, decode_tokens
from ProxyPromptSegmentLib.networks.devices import without_autocast
from ProxyPromptSegmentLib.networks.values import Decoded, ImageFeatures, Prompt

# name: (embed_dim, depth, heads, global attention blocks), from segment_anything/build_sam.py
VIT_SIZES: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    "sam-vit-b": (768, 12, 12, (2, 5, 8, 11)),
    "sam-vit-l": (1024, 24, 16, (5, 11, 17, 23)),
    "sam-vit-h": (1280, 32, 16, (7, 15, 23, 31)),
    "medsam-vit-b": (768, 12, 12, (2, 5, 8, 11)),
}
OFFICIAL_SIZE = 1024  # pixels
MEDSAM_NAME = "medsam-vit-b"
COMPACT_NAME = "sam-compact"
FIRST_COMPACT_SIZE = 128  # pixels; up to it, the encoder is the first version's, trained from scratch
SAM_NAMES = (*VIT_SIZES, COMPACT_NAME)

# SAM's own statistics, on 0..255. MedSAM was trained on images in 0..1 without them; the compact model on
# a plain centring.
SAM_MEAN, SAM_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def _normalisation(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation, ``(3, 1, 1)`` each, for images in 0..1."""
    mean: tuple[float, ...] = (0.5,) * 3
    std: tuple[float, ...] = (0.25,) * 3
    if name == MEDSAM_NAME:
        mean, std = (0.0,) * 3, (1.0,) * 3
    elif name in VIT_SIZES:
        mean = tuple(value / 255 for value in SAM_MEAN)
        std = tuple(value / 255 for value in SAM_STD)
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)


def _compact_encoder(size: int, channels: int) -> nn.Module:
    """Build the compact model's image encoder; files of the first version have another one, at 128 pixels."""
    if size <= FIRST_COMPACT_SIZE:
        from ProxyPromptSegmentLib.networks.backbones.compact_encoder import CompactImageEncoder

        return CompactImageEncoder(img_size=size, out_channels=channels)
    from ProxyPromptSegmentLib.networks.backbones.pyramid_encoder import PyramidImageEncoder

    return PyramidImageEncoder(img_size=size, channels=channels)


def build_sam_modules(name: str, compact: dict[str, Any] | None = None) -> nn.Module:
    """Build `segment_anything.modeling.Sam` with random weights.

    Args:
        name: One of `SAM_NAMES`.
        compact: Changes to the compact configuration: ``image_size``, ``channels``, ``mlp_dim``.

    Raises:
        UsageError: If the name is unknown.
    """
    if name not in SAM_NAMES:
        raise UsageError(f"there is no SAM backbone '{name}'; choose one of {', '.join(SAM_NAMES)}")
    modeling = segment_anything_modeling()
    encoder: nn.Module
    if name == COMPACT_NAME:
        options = {"image_size": 256, "channels": 128, "mlp_dim": 256, **(compact or {})}
        size, channels, stride = options["image_size"], options["channels"], 8
        encoder = _compact_encoder(size, channels)
        heads, mlp_dim = 4, options["mlp_dim"]
    else:
        size, channels, stride = OFFICIAL_SIZE, 256, 16
        heads, mlp_dim = 8, 2048
        dim, depth, encoder_heads, global_blocks = VIT_SIZES[name]
        encoder = modeling.ImageEncoderViT(
            depth=depth,
            embed_dim=dim,
            img_size=size,
            mlp_ratio=4,
            norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
            num_heads=encoder_heads,
            patch_size=stride,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=global_blocks,
            window_size=14,
            out_chans=channels,
        )
    grid = size // stride
    return modeling.Sam(
        image_encoder=encoder,
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=channels,
            image_embedding_size=(grid, grid),
            input_image_size=(size, size),
            mask_in_chans=16,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=mlp_dim, num_heads=heads),
            transformer_dim=channels,
            iou_head_depth=3,
            iou_head_hidden_dim=channels,
        ),
        pixel_mean=list(SAM_MEAN),
        pixel_std=list(SAM_STD),
    )


class SamBackbone(nn.Module):
    """The `Backbone` protocol on `segment_anything`'s modules.

    Attributes:
        name: One of `SAM_NAMES`.
        image_size: Side of the square input in pixels.
        grid: Side of the feature grid.
        channels: Channels of the embedding.
        sam: The package's own module, whose state dict is the official checkpoint's.
        few_tokens: Whether `token_decoder` decodes where it can; False to compare its speed with the package's.
    """

    def __init__(self, name: str, compact: dict[str, Any] | None = None) -> None:
        """Build the modules with random weights; `checkpoints` fills them."""
        super().__init__()
        self.sam = build_sam_modules(name, compact)
        self.name = name
        self.few_tokens = True
        self.image_size = int(self.sam.image_encoder.img_size)
        self.grid = int(self.sam.prompt_encoder.image_embedding_size[0])
        self.channels = int(self.sam.mask_decoder.transformer_dim)
        mean, std = _normalisation(name)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @property
    def keeps_aspect(self) -> bool:
        """Whether images are letterboxed; MedSAM was trained on images squashed to a square."""
        return self.name != MEDSAM_NAME

    def encode(self, images: torch.Tensor, valid: torch.Tensor | None = None) -> ImageFeatures:
        """Embed images.

        Args:
            images: ``(B, 3, size, size)`` in 0..1, padded with 0.
            valid: Feature positions that are not padding, bool ``(B, g, g)``; None means all.
        """
        normalised = (images - self.mean) / self.std
        if valid is None:
            valid = torch.ones(images.shape[0], self.grid, self.grid, dtype=torch.bool, device=images.device)
        elif self.name in VIT_SIZES and not bool(valid.all()):
            # SAM pads after normalising, so padding is 0 in normalised units; the compact model is trained with black.
            pixels = valid.repeat_interleave(self.image_size // self.grid, -1)
            pixels = pixels.repeat_interleave(self.image_size // self.grid, -2)
            padding = (images == 0).all(1) & ~pixels
            normalised = normalised.masked_fill(padding.unsqueeze(1), 0.0)
        return ImageFeatures(top=self.sam.image_encoder(normalised), positions=self.positions(), valid=valid)

    def positions(self) -> torch.Tensor:
        """Return SAM's random Fourier encoding of the grid, ``(C, g, g)``."""
        with without_autocast(self.mean.device):  # angles of many turns, which bfloat16 cannot hold
            return self.sam.prompt_encoder.get_dense_pe()[0]

    def decode(self, features: ImageFeatures, prompt: Prompt) -> Decoded:
        """Run SAM's mask decoder for all targets and objects at once; single-mask output (token 0).

        Args:
            features: ``B`` embedded targets.
            prompt: ``sparse``, ``dense`` or ``mask``, or several of them, for ``B`` targets and ``N`` objects.

        Returns:
            Logits ``(B, N, 4g, 4g)`` and estimated IoU ``(B, N)``.

        Raises:
            UsageError: If the prompt has no part that SAM's decoder reads.
        """
        logits, quality = self.decode_masks(features, prompt, (0,))
        return Decoded(logits=logits[:, :, 0], quality=quality[:, :, 0])

    def decode_masks(
        self, features: ImageFeatures, prompt: Prompt, outputs: Sequence[int] = (0, 1, 2, 3)
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the decoder and return some of its masks: 0 is the single mask, 1 to 3 are three readings of a click.

        The package's ``predict_masks`` pairs one image with many prompts and cannot pair ``B`` images with
        ``N`` prompts each; this is the same computation with the images repeated beforehand.

        Args:
            features: ``B`` embedded targets.
            prompt: As in `decode`.
            outputs: Indices of the mask tokens.

        Returns:
            Logits ``(B, N, len(outputs), 4g, 4g)`` and estimated IoU ``(B, N, len(outputs))``.

        Raises:
            UsageError: If the prompt has no part that SAM's decoder reads.
        """
        decoder, encoder = self.sam.mask_decoder, self.sam.prompt_encoder
        parts = [part for part in (prompt.sparse, prompt.dense, prompt.mask) if part is not None]
        if not parts:
            raise UsageError("SAM's decoder needs a sparse, a dense or a mask prompt; the prompt has none")
        batch, objects = parts[0].shape[:2]
        count = batch * objects
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).unsqueeze(0).expand(count, -1, -1)
        if prompt.sparse is not None:
            tokens = torch.cat([tokens, prompt.sparse.flatten(0, 1)], dim=1)
        if prompt.dense is None:
            image = features.top.repeat_interleave(objects, dim=0)
        else:
            image = (features.top.unsqueeze(1) + prompt.dense).flatten(0, 1)
        if prompt.mask is not None:
            image = image + encoder.mask_downscaling(prompt.mask.flatten(0, 1).unsqueeze(1))
        if prompt.dense is None and prompt.mask is None:
            image = image + encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        if self.few_tokens and can_decode(decoder, tokens.shape[1], image.device):
            logits, hidden = decode_tokens(decoder, image, features.positions, tokens, outputs)
        else:
            positions = features.positions.unsqueeze(0).expand(count, -1, -1, -1)
            hidden, image_out = decoder.transformer(image, positions, tokens)
            grid = image.shape[-1]
            image_out = image_out.transpose(1, 2).reshape(count, -1, grid, grid)
            upscaled = decoder.output_upscaling(image_out)
            kernels = torch.stack([decoder.output_hypernetworks_mlps[n](hidden[:, 1 + n]) for n in outputs], dim=1)
            logits = torch.einsum("bmc,bchw->bmhw", kernels, upscaled)
        scores = decoder.iou_prediction_head(hidden[:, 0])
        quality = torch.stack([scores[:, n] for n in outputs], dim=1)  # a list as an index would wait for the host
        return logits.unflatten(0, (batch, objects)), quality.unflatten(0, (batch, objects))

    def prompt_points(
        self, points: torch.Tensor | None, labels: torch.Tensor | None, boxes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embed clicks and boxes as SAM does.

        Args:
            points: Pixel positions ``(x, y)`` in the square, ``(M, P, 2)``; None for a box alone.
            labels: 1 inside, 0 outside, ``(M, P)``.
            boxes: Centres of the first and the last pixel ``(x, y, x, y)``, ``(M, 4)``.

        Returns:
            Tokens ``(M, t, C)``: those of the clicks, of a padding point where there is no box, of the box's corners.
        """
        given = None if points is None or labels is None else (points, labels)
        with without_autocast(self.mean.device):
            sparse, _ = self.sam.prompt_encoder(points=given, boxes=boxes, masks=None)
        return sparse
