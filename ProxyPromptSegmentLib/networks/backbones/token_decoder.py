"""SAM's mask decoder for prediction with few prompt tokens: the same numbers with fewer passes over the image.

An attention between ``P`` image positions and ``T`` tokens with ``h`` heads projects all positions to queries, or
to keys and values. Where ``h * T`` is no larger than the width, it is cheaper to project the tokens instead:
products of matrices are associative, so that ``(X W) (t V)^T = X (W V^T t^T)``. Positions are rows throughout, so
that neither heads nor channels are moved in memory; enlarging by transposed convolutions that do not overlap is a
product of matrices for each position, too. The last attention is computed for the tokens that are read afterwards.
Results are those of the package up to rounding (Kirillov et al., Segment Anything, 2023, appendix A).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def can_decode(decoder: Any, tokens: int, device: torch.device) -> bool:
    """Return whether a decoder may be run so: it only predicts, in single precision, with few tokens and no adapters.

    Args:
        decoder: ``MaskDecoder`` of either package.
        tokens: Number of tokens of one prompt, with the decoder's own.
        device: Where it computes.
    """
    if torch.is_grad_enabled() or _autocast(device) or decoder.training:
        return False
    attention = decoder.transformer.final_attn_token_to_image
    if tokens * attention.num_heads > attention.embedding_dim:
        return False
    linear = [m for layer in _attentions(decoder.transformer) for m in (layer.q_proj, layer.k_proj, layer.v_proj)]
    return all(type(module) is nn.Linear for module in linear)


def decode_tokens(
    decoder: Any,
    image: torch.Tensor,
    positions: torch.Tensor,
    tokens: torch.Tensor,
    outputs: Sequence[int],
    before: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode ``M`` prompts.

    Args:
        decoder: ``MaskDecoder`` of SAM's package, or of SAM 2's where it reads no finer features.
        image: Image embeddings with dense prompts, ``(M, C, g, g)``; their memory may be overwritten.
        positions: Positional encoding, ``(C, g, g)``.
        tokens: Tokens of the decoder and of the prompts, ``(M, T, C)``.
        outputs: Indices of the mask tokens.
        before: Number of tokens before that of the IoU, which those of the masks follow.

    Returns:
        Logits ``(M, len(outputs), 4g, 4g)``, and the first tokens, up to the last that is needed, ``(M, t, C)``.
    """
    grid = image.shape[-1]
    rows = image.flatten(2).transpose(1, 2).contiguous()
    where = positions.flatten(1).transpose(0, 1).contiguous()
    masks = before + 1
    read = masks + max(outputs) + 1
    hidden, rows = _two_way(decoder.transformer, rows, where, tokens, read)
    fine = _enlarged(decoder.output_upscaling, rows)
    kernels = torch.stack([decoder.output_hypernetworks_mlps[n](hidden[:, masks + n]) for n in outputs], dim=2)
    logits = torch.matmul(fine, kernels).view(len(rows), grid, grid, 2, 2, 2, 2, len(outputs))
    # Rows of the grid, of the first and of the second enlargement; then columns likewise.
    logits = logits.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(len(rows), len(outputs), 4 * grid, 4 * grid)
    return logits, hidden


def _autocast(device: torch.device) -> bool:
    """Return whether half precision is on."""
    try:
        return torch.is_autocast_enabled(device.type)
    except TypeError:  # before PyTorch 2.4
        return torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled()


def _attentions(transformer: Any) -> list[Any]:
    """Return the attentions between tokens and image."""
    both = [(one.cross_attn_token_to_image, one.cross_attn_image_to_token) for one in transformer.layers]
    return [*(attention for pair in both for attention in pair), transformer.final_attn_token_to_image]


def _two_way(
    transformer: Any, rows: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor, read: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the package's ``TwoWayTransformer`` on rows ``(M, P, C)``; return the first ``read`` tokens, and rows."""
    queries = tokens
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            queries = layer.self_attn(q=queries, k=queries, v=queries)
        else:
            asked = queries + tokens
            queries = queries + layer.self_attn(q=asked, k=asked, v=queries)
        queries = layer.norm1(queries)
        placed = rows + where
        queries = queries + _from_image(layer.cross_attn_token_to_image, queries + tokens, placed, rows)
        queries = layer.norm2(queries)
        queries = layer.norm3(queries + layer.mlp(queries))
        rows = _add_from_tokens(layer.cross_attn_image_to_token, rows, placed, queries + tokens, queries)
        rows = layer.norm4(rows)
    queries, tokens = queries[:, :read], tokens[:, :read]
    placed = rows + where
    queries = queries + _from_image(transformer.final_attn_token_to_image, queries + tokens, placed, rows)
    return transformer.norm_final_attn(queries), rows


def _by_head(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the weight of a projection for each head, ``(h, c, C)``."""
    return weight.view(heads, -1, weight.shape[1])


def _from_image(attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Attend from tokens ``(M, T, C)`` to the image, ``(M, P, C)`` with and without positions; ``(M, T, C)``.

    The bias of the keys adds the same to all scores of a token, which a softmax ignores; that of the values is added
    once, because weights sum to 1.
    """
    heads, count = attention.num_heads, queries.shape[1]
    asked = attention.q_proj(queries).unflatten(2, (heads, -1)).transpose(1, 2)
    asked = torch.matmul(asked / math.sqrt(asked.shape[-1]), _by_head(attention.k_proj.weight, heads)).flatten(1, 2)
    weights = torch.softmax(torch.matmul(asked, keys.transpose(1, 2)), dim=-1)
    read = torch.matmul(weights, values).unflatten(1, (heads, count))
    read = torch.matmul(read, _by_head(attention.v_proj.weight, heads).transpose(1, 2))
    return attention.out_proj(read.transpose(1, 2).flatten(2) + attention.v_proj.bias)


def _add_from_tokens(
    attention: Any, rows: torch.Tensor, placed: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Add to rows ``(M, P, C)``, in place, what they read from tokens.

    Scores are kept with the positions last, so that the softmax over few tokens runs along many positions. Weights of a
    head sum to 1, so that a share of the bias of the output can be added to what each head says.

    Args:
        attention: The package's attention.
        rows: The image without its positional encoding.
        placed: The image with it.
        keys: Tokens with their encoding, ``(M, T, C)``.
        values: Tokens without it, ``(M, T, C)``.
    """
    heads, count = attention.num_heads, keys.shape[1]
    known = attention.k_proj(keys).unflatten(2, (heads, -1)).transpose(1, 2)
    known = known / math.sqrt(known.shape[-1])
    bias = torch.matmul(known, attention.q_proj.bias.view(heads, -1, 1)).flatten(1, 2)
    known = torch.matmul(known, _by_head(attention.q_proj.weight, heads)).flatten(1, 2)
    scores = torch.baddbmm(bias, known, placed.transpose(1, 2)).unflatten(1, (heads, count))
    weights = torch.softmax(scores, dim=2).flatten(1, 2)
    said = attention.v_proj(values).unflatten(2, (heads, -1)).transpose(1, 2)
    out = attention.out_proj.weight.t().view(heads, -1, attention.out_proj.weight.shape[0])
    said = (torch.matmul(said, out) + attention.out_proj.bias / heads).flatten(1, 2)
    return rows.baddbmm_(weights.transpose(1, 2), said)


def _enlarged(upscaling: Any, rows: torch.Tensor) -> torch.Tensor:
    """Enlarge rows ``(M, P, C)`` four times: ``(M, P * 16, C / 8)``, 4 parts of each of 4 parts of a position."""
    first, norm, activation, second, last = upscaling
    rows = _spread(first, rows)
    rows = functional.layer_norm(rows, norm.weight.shape, norm.weight, norm.bias, norm.eps)
    return last(_spread(second, activation(rows)))


def _spread(convolution: nn.ConvTranspose2d, rows: torch.Tensor) -> torch.Tensor:
    """Apply a transposed convolution of 2 x 2 with stride 2 to rows ``(M, P, C)``; ``(M, P * 4, C')``."""
    weight = convolution.weight.permute(0, 2, 3, 1)  # (C, 2, 2, C')
    found = torch.matmul(rows, weight.flatten(1)).unflatten(2, (4, -1))
    return found.add_(convolution.bias).flatten(1, 2)
