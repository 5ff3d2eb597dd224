"""The Selective Map: weights of the support positions for each target position, and the values read through it.

References:
    Proxy Prompt, section 3.2, Eq. 6 (similarity, repaired: the square is the support's norm) and Eq. 7.
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

QUERY_CHUNK = 512


def similarity(target: torch.Tensor, support: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Compute Eq. 6: ``(2 F_sup^T F_x - |F_sup|^2) / sqrt(C)``.

    It is the negative squared distance up to a term that is constant for a target position, so that the
    softmax over the support is a softmax of distances.

    Args:
        target: F_x, ``(B, C, Q)``.
        support: F_sup, ``(C, M)`` for all targets, or ``(B, C, M)`` for each its own.
        temperature: Divides the result; 1 in the paper.

    Returns:
        float32 ``(B, Q, M)``.
    """
    # Norms of hundreds minus products of hundreds: half precision would lose the difference.
    support, target = support.float(), target.float()
    product = torch.matmul(target.transpose(1, 2), support)
    norm = support.square().sum(dim=-2).unsqueeze(-2)
    return (2.0 * product - norm) / (support.shape[-2] ** 0.5 * temperature)


def _read(
    target: torch.Tensor, support: torch.Tensor, values: torch.Tensor, blocked: torch.Tensor | None, temperature: float
) -> torch.Tensor:
    """Read one chunk of target positions with a softmax over the support; ``(B, Q, V)``."""
    with torch.autocast(device_type=target.device.type, enabled=False):
        if support.ndim == 2 and not torch.is_grad_enabled():
            return _read_shared(target, support, values, blocked, temperature)
        scores = similarity(target, support, temperature)
        if blocked is not None:
            scores = scores.masked_fill(blocked.unsqueeze(1), float("-inf"))
        return torch.softmax(scores, dim=-1) @ values.float()


def _read_shared(
    target: torch.Tensor, support: torch.Tensor, values: torch.Tensor, blocked: torch.Tensor | None, temperature: float
) -> torch.Tensor:
    """Read one support for all targets: two matrix products for all of them, scaled before instead of after.

    Factor and norm go into the keys, which are fewer than the similarities by the number of target positions; on a
    processor those three passes over the map cost as much as a product.
    """
    batch, _, positions = target.shape
    support, scale = support.float(), 1.0 / (support.shape[0] ** 0.5 * temperature)
    keys, bias = support * (2.0 * scale), support.square().sum(dim=0) * -scale
    queries = target.float().transpose(1, 2).reshape(batch * positions, -1)
    scores = torch.addmm(bias, queries, keys)
    if blocked is not None:
        scores = scores.view(batch, positions, -1).masked_fill_(blocked.unsqueeze(1), float("-inf")).flatten(0, 1)
    return (torch.softmax(scores, dim=-1) @ values.float()).view(batch, positions, -1)


def read_support(
    target: torch.Tensor,
    support: torch.Tensor,
    values: torch.Tensor,
    allowed: torch.Tensor,
    temperature: float = 1.0,
    chunk: int = QUERY_CHUNK,
) -> torch.Tensor:
    """Read values of the support at every target position (Eq. 7); the whole map is never stored.

    Args:
        target: F_x, ``(B, C, P)``.
        support: F_sup of all supports, ``(C, M)`` with ``M = K * P``, or ``(B, C, M)`` for each target its own.
        values: The values to read, objects concatenated, ``(M, V)`` or ``(B, M, V)``.
        allowed: Support positions that each target may read, bool ``(B, M)``; padding is not.
        temperature: See `similarity`.
        chunk: Target positions at a time; bounds the memory.

    Returns:
        float32 ``(B, P, V)``.
    """
    blocked = None if bool(allowed.all()) else ~allowed
    parts = []
    for part in target.split(chunk, dim=2):
        if torch.is_grad_enabled() and target.shape[2] > chunk:
            parts.append(checkpoint(_read, part, support, values, blocked, temperature, use_reentrant=False))
        else:
            parts.append(_read(part, support, values, blocked, temperature))
    return torch.cat(parts, dim=1)


def map_at(
    target: torch.Tensor,
    support: torch.Tensor,
    allowed: torch.Tensor,
    positions: torch.Tensor,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return the map's columns for some target positions, as shown in the "why view".

    Args:
        target: F_x of one target, ``(C, P)``.
        support: F_sup, ``(C, M)``.
        allowed: bool ``(M,)``.
        positions: Indices into ``P``, ``(Q,)``.
        temperature: See `similarity`.

    Returns:
        Weights that sum to 1 over the support, float32 ``(Q, M)``.
    """
    scores = similarity(target[:, positions].unsqueeze(0), support, temperature)[0]
    return torch.softmax(scores.masked_fill(~allowed.unsqueeze(0), float("-inf")), dim=-1)
