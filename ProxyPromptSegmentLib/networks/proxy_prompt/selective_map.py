"""The Selective Map: weights of the support positions for each target position, and the values read through it.

References:
    Proxy Prompt, section 3.2, Eq. 6 (similarity, repaired: the square is the support's norm) and Eq. 7.
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from ProxyPromptSegmentLib.networks.devices import without_autocast
from ProxyPromptSegmentLib.networks.proxy_prompt.summed_map import SummedMap

QUERY_CHUNK = 256  # whose weights stay in a core's cache
LARGEST_MAP = 1 << 29  # weights that are computed at once on a graphics card


def similarity(
    target: torch.Tensor, support: torch.Tensor, temperature: float = 1.0, channels: int | None = None
) -> torch.Tensor:
    """Compute Eq. 6: ``(2 F_sup^T F_x - |F_sup|^2) / sqrt(C)``.

    It is the negative squared distance up to a term that is constant for a target position, so that the
    softmax over the support is a softmax of distances.

    Args:
        target: F_x, ``(B, C, Q)``.
        support: F_sup, ``(C, M)`` for all targets, or ``(B, C, M)`` for each its own.
        temperature: Divides the result; 1 in the paper.
        channels: ``C`` of the scale, where coordinates were added to the features; by default all.

    Returns:
        float32 ``(B, Q, M)``.
    """
    # Norms of hundreds minus products of hundreds: half precision would lose the difference.
    support, target = support.float(), target.float()
    product = torch.matmul(target.transpose(1, 2), support)
    norm = support.square().sum(dim=-2).unsqueeze(-2)
    return (2.0 * product - norm) / ((channels or support.shape[-2]) ** 0.5 * temperature)


def summed(
    support: torch.Tensor,
    values: torch.Tensor,
    allowed: torch.Tensor,
    temperature: float = 1.0,
    channels: int | None = None,
    counts: torch.Tensor | None = None,
) -> SummedMap:
    """Arrange supports that many targets read on a processor; arguments as of `read_support`."""
    support = support.float()
    scale = 1.0 / ((channels or len(support)) ** 0.5 * temperature)
    return SummedMap.of(support, values, _bias(support, allowed, scale, counts), scale)


def _bias(
    support: torch.Tensor, allowed: torch.Tensor, scale: float, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Return what Eq. 6 adds to the products: the supports' norms, and minus infinity where nothing may be read."""
    norm = support.square().sum(dim=-2) * -scale
    if counts is not None:
        norm = norm + counts.log()
    return torch.where(allowed, norm, norm.new_full((), float("-inf")))


def _read(
    target: torch.Tensor, support: torch.Tensor, values: torch.Tensor, bias: torch.Tensor, scale: float
) -> torch.Tensor:
    """Read one chunk of target positions with a softmax over each target's own support; ``(B, Q, V)``."""
    with without_autocast(target.device):
        scores = torch.baddbmm(bias.unsqueeze(1), target.float().transpose(1, 2), support * (2.0 * scale))
        return torch.softmax(scores, dim=-1) @ values.float()


def _read_shared(
    target: torch.Tensor, support: torch.Tensor, values: torch.Tensor, bias: torch.Tensor, scale: float
) -> torch.Tensor:
    """Read one support for all targets: two matrix products for all of them; ``(B, Q, V)``.

    Factor and norm go into the keys, which are fewer than the similarities by the number of target positions; on a
    processor those passes over the map cost as much as a product.
    """
    batch, _, positions = target.shape
    with without_autocast(target.device):
        queries = target.float().transpose(1, 2).reshape(batch * positions, -1)
        scores = torch.addmm(bias, queries, support * (2.0 * scale))
        return (torch.softmax(scores, dim=-1) @ values.float()).view(batch, positions, -1)


def read_support(
    target: torch.Tensor,
    support: torch.Tensor,
    values: torch.Tensor,
    allowed: torch.Tensor,
    temperature: float = 1.0,
    chunk: int | None = None,
    channels: int | None = None,
    counts: torch.Tensor | None = None,
) -> torch.Tensor:
    """Read values of the support at every target position (Eq. 7); the whole map is never stored on a processor.

    Args:
        target: F_x, ``(B, C, P)``.
        support: F_sup of all supports, ``(C, M)`` with ``M = K * P``, or ``(B, C, M)`` for each target its own.
        values: The values to read, objects concatenated, ``(M, V)`` or ``(B, M, V)``.
        allowed: Support positions that may be read, bool ``(M,)`` for all targets or ``(B, M)``; padding is not.
        temperature: See `similarity`.
        chunk: Target positions at a time; bounds the memory. By default `QUERY_CHUNK`, or all where they fit.
        channels: ``C`` of the scale of Eq. 6, where coordinates were added to the features; by default all.
        counts: How many keys each key stands for, ``(M,)``; by default 1.

    Returns:
        float32 ``(B, P, V)``.
    """
    shared = support.ndim == 2 and allowed.ndim == 1
    if shared and chunk is None and SummedMap.serves(target):
        return summed(support, values, allowed, temperature, channels, counts).read(target)
    support = support.float()  # half precision would lose the difference of norms and products
    scale = 1.0 / ((channels or support.shape[-2]) ** 0.5 * temperature)
    bias = _bias(support, allowed, scale, counts)
    read = _read_shared
    if not shared:
        read, support = _read, support.expand(target.shape[0], -1, -1)
    if chunk is None:
        whole = target.shape[0] * target.shape[2] * support.shape[-1]
        chunk = target.shape[2] if target.device.type != "cpu" and whole <= LARGEST_MAP else QUERY_CHUNK
    parts = []
    for part in target.split(chunk, dim=2):
        if torch.is_grad_enabled() and target.shape[2] > chunk:
            parts.append(
                checkpoint(read, part, support, values, bias, scale, use_reentrant=False, preserve_rng_state=False)
            )
        else:
            parts.append(read(part, support, values, bias, scale))
    return torch.cat(parts, dim=1)


def map_at(
    target: torch.Tensor,
    support: torch.Tensor,
    allowed: torch.Tensor,
    positions: torch.Tensor,
    temperature: float = 1.0,
    channels: int | None = None,
    counts: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the map's columns for some target positions, as shown in the "why view".

    Args:
        target: F_x of one target, ``(C, P)``.
        support: F_sup, ``(C, M)``.
        allowed: bool ``(M,)``.
        positions: Indices into ``P``, ``(Q,)``.
        temperature: See `similarity`.
        channels: See `similarity`.
        counts: See `read_support`.

    Returns:
        Weights that sum to 1 over the support, float32 ``(Q, M)``.
    """
    scores = similarity(target[:, positions].unsqueeze(0), support, temperature, channels)[0]
    if counts is not None:
        scores = scores + counts.log()
    return torch.softmax(scores.masked_fill(~allowed.unsqueeze(0), float("-inf")), dim=-1)
