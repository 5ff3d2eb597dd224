"""SAM's mask decoder with PerSAM's two changes: guided attention from tokens to the image, and a feature in the tokens.

The similarity is added to the attention after its softmax, and a second softmax follows; the target's feature is added
to the tokens before each layer and before the last attention. In the public code the first addition is in place, so
that it also reaches the tokens' positions; that is kept, for it is what was measured.

References:
    Zhang et al. 2023, section 3.3 and ``per_segment_anything/modeling/transformer.py``.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.values import ImageFeatures


def guided_logits(
    backbone: SamBackbone,
    features: ImageFeatures,
    tokens: torch.Tensor,
    guide: torch.Tensor,
    target: torch.Tensor,
) -> torch.Tensor:
    """Return the single mask of one embedded slice, ``(4g, 4g)``.

    Args:
        backbone: SAM.
        features: The slice.
        tokens: Tokens of the points, ``(1, t, C)``.
        guide: Similarity of each position in 0..1, ``(1, g * g)``.
        target: Feature of the object, ``(C,)``.
    """
    decoder, encoder = backbone.sam.mask_decoder, backbone.sam.prompt_encoder
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).unsqueeze(0)
    points = torch.cat([own, tokens], dim=1) + target
    image = features.top + encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    grid = image.shape[-1]
    keys = image.flatten(2).transpose(1, 2)
    places = features.positions.unsqueeze(0).flatten(2).transpose(1, 2)
    transformer = decoder.transformer
    queries = points
    for number, layer in enumerate(transformer.layers):
        queries, keys = _layer(layer, queries if number == 0 else queries + target, keys, points, places, guide)
    seen = attention(transformer.final_attn_token_to_image, queries + points + target, keys + places, keys, None)
    queries = transformer.norm_final_attn(queries + seen)
    upscaled = decoder.output_upscaling(keys.transpose(1, 2).unflatten(-1, (grid, grid)))
    kernel = decoder.output_hypernetworks_mlps[0](queries[:, 1])
    return torch.einsum("bc,bchw->bhw", kernel, upscaled)[0]


def _layer(
    layer: Any,
    queries: torch.Tensor,
    keys: torch.Tensor,
    points: torch.Tensor,
    places: torch.Tensor,
    guide: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One two-way layer of SAM's decoder, guided where tokens attend to the image."""
    if layer.skip_first_layer_pe:
        queries = attention(layer.self_attn, queries, queries, queries, None)
    else:
        placed = queries + points
        queries = queries + attention(layer.self_attn, placed, placed, queries, None)
    queries = layer.norm1(queries)
    seen = attention(layer.cross_attn_token_to_image, queries + points, keys + places, keys, guide)
    queries = layer.norm2(queries + seen)
    queries = layer.norm3(queries + layer.mlp(queries))
    back = attention(layer.cross_attn_image_to_token, keys + places, queries + points, queries, None)
    return queries, layer.norm4(keys + back)


def attention(
    layer: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, guide: torch.Tensor | None
) -> torch.Tensor:
    """Run an attention layer of SAM's decoder; with a guide ``(1, keys)``, a second softmax over weights plus guide."""

    def heads(values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)

    q, k, v = heads(layer.q_proj(query)), heads(layer.k_proj(key)), heads(layer.v_proj(value))
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    if guide is not None:
        weights = (weights + guide).softmax(dim=-1)
    return layer.out_proj((weights @ v).transpose(1, 2).flatten(2))
