"""Selective scan: the input-dependent linear recurrence of Mamba, in plain torch, fast on one CPU core.

For every channel ``d``, state index ``s`` and time ``t``::

    h[t] = exp(delta[t] * A) * h[t-1] + delta[t] * u[t] * B[t]
    y[t] = sum_s C[t] * h[t] + D * u[t]

`scan_recurrence` says how it is computed. This file holds the interface (mamba_ssm's, so that either can
stand in for the other), the reference, and the choice between the plain scan and mamba_ssm's CUDA kernel
where that is installed.

References:
    Gu and Dao, Mamba (2023), section 3.2 and algorithm 2; Zhu et al., Vision Mamba (2024), algorithm 1.
"""

from __future__ import annotations

import functools
import logging
import math

import torch
from torch import Tensor
from torch.nn import functional

from ProxyPromptSegmentLib.networks.devices import without_autocast
from ProxyPromptSegmentLib.networks.proxy_prompt.scan_recurrence import ScanFunction
from ProxyPromptSegmentLib.networks.proxy_prompt.scan_sizes import ScanSizes

__all__ = ["scan_time_major", "selective_scan", "selective_scan_reference"]

_STEP_LEAST = 1 << 12  # states per step below which a CPU call costs more than its arithmetic
_STEP_MOST = 1 << 16  # states per step above which the batch is split, as a block would hold too few steps
_DEVICE_CHUNK = 64  # steps per chunk where every call is a kernel launch

_log = logging.getLogger(__name__)


# ------------------------------------------------------------------------------------------- public functions


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    chunk: int | None = None,
) -> Tensor:
    """Run the selective scan, in float32 (float64 for float64 input) also under autocast.

    Args:
        u: Input; shape ``(B, D, L)``.
        delta: Step sizes, not negative after bias and softplus; shape ``(B, D, L)``.
        A: Decay rates, at most 0; shape ``(D, n)``.
        B: Input weights; shape ``(B, n, L)``, or ``(B, G, n, L)`` with D channels in G consecutive groups.
        C: Output weights; shape as ``B``.
        D: Skip weight per channel; shape ``(D,)``.
        z: Gate; the output is multiplied with ``silu(z)``; shape ``(B, D, L)``.
        delta_bias: Added to ``delta``; shape ``(D,)``.
        delta_softplus: Whether softplus follows.
        chunk: Steps per chunk; None chooses by device and size, L or more turns chunks off.

    Returns:
        Output of ``u``'s shape and type.

    Raises:
        ValueError: If the shapes disagree.
    """
    grouped_b, grouped_c = (x if x.dim() == 4 else x.unsqueeze(1) for x in (B, C))
    batch, channels, length = u.shape
    groups = grouped_b.shape[1]
    _check_shapes(u, delta, A, grouped_b, grouped_c)
    kind = torch.float64 if u.dtype == torch.float64 else torch.float32
    with without_autocast(u.device):

        def time_major(x: Tensor) -> Tensor:  # (B, G*x, L) -> (L, B, G, x)
            return x.to(kind).reshape(batch, groups, -1, length).permute(3, 0, 1, 2)

        step = _step_sizes(delta.to(kind), delta_bias, delta_softplus)
        y = scan_time_major(
            time_major(u),
            time_major(step),
            A.to(kind).reshape(groups, channels // groups, -1),
            grouped_b.to(kind).permute(3, 0, 1, 2),
            grouped_c.to(kind).permute(3, 0, 1, 2),
            chunk=chunk,
        )
        y = y.permute(1, 2, 3, 0).reshape(batch, channels, length)
        return _skip_and_gate(y, u, D, z, kind)


def scan_time_major(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    chunk: int | None = None,
) -> Tensor:
    """Run the bare recurrence (no skip, gate or softplus) on tensors whose first axis is time.

    Args:
        u: Input; float32 or float64, shape ``(L, B, G, D)``.
        delta: Step sizes, at least 0; shape ``(L, B, G, D)``.
        A: Decay rates, at most 0; shape ``(G, D, n)``.
        B: Input weights; shape ``(L, B, G, n)``.
        C: Output weights; shape ``(L, B, G, n)``.
        chunk: Steps per chunk; see `selective_scan`.

    Returns:
        Output; shape ``(L, B, G, D)``.
    """
    if u.is_cuda and chunk is None and u.dtype == torch.float32 and _accelerator() is not None:
        return _scan_accelerated(u, delta, A, B, C)
    steps = chunk if chunk is not None else _default_chunk(u, A.shape[-1])
    rates = A.transpose(1, 2).contiguous()  # (G, n, D): channels last, as in every state
    # Inside a Function gradients always look wanted where a weight could have one, so ask here.
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in (u, delta, A, B, C))

    def scan(u: Tensor, delta: Tensor, weight_in: Tensor, weight_out: Tensor) -> Tensor:
        function = ScanSizes if u.is_meta else ScanFunction
        return function.apply(u, delta, rates, weight_in, weight_out, steps, keep)

    batch = u.shape[1]
    most = batch if not u.numel() else max(1, _STEP_MOST * batch // (u[0].numel() * A.shape[-1]))
    if u.device.type != "cpu" or most >= batch:
        return scan(u, delta, B, C)
    parts = zip(*(x.split(most, dim=1) for x in (u, delta, B, C)), strict=True)
    return torch.cat([scan(*part) for part in parts], dim=1)


def selective_scan_reference(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Run `selective_scan` step by step with autograd: slow and simple, the reference for the tests."""
    kind = torch.float64 if u.dtype == torch.float64 else torch.float32
    grouped_b, grouped_c = ((x if x.dim() == 4 else x.unsqueeze(1)).to(kind) for x in (B, C))
    per_group = u.shape[1] // grouped_b.shape[1]
    step = _step_sizes(delta.to(kind), delta_bias, delta_softplus)
    rates, value = A.to(kind), u.to(kind)
    state = value.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    outputs = []
    for t in range(u.shape[2]):
        weight_in, weight_out = (x[..., t].repeat_interleave(per_group, dim=1) for x in (grouped_b, grouped_c))
        now = step[:, :, t, None]
        state = torch.exp(now * rates) * state + now * value[:, :, t, None] * weight_in
        outputs.append((state * weight_out).sum(-1))
    y = torch.stack(outputs, dim=-1) if outputs else torch.zeros_like(value)
    return _skip_and_gate(y, u, D, z, kind)


# -------------------------------------------------------------------------------------------- around the scan


def _check_shapes(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> None:
    batch, channels, length = u.shape
    groups = B.shape[1]
    wanted = (batch, groups, A.shape[-1], length)
    if delta.shape != u.shape or A.shape[0] != channels or B.shape != wanted or C.shape != wanted or channels % groups:
        raise ValueError(
            f"selective_scan got u {tuple(u.shape)}, delta {tuple(delta.shape)}, A {tuple(A.shape)}, "
            f"B {tuple(B.shape)}, C {tuple(C.shape)}; allowed are u and delta (B, D, L), A (D, n), "
            "B and C (B, n, L) or (B, G, n, L) with D a multiple of G. Bring them to these shapes."
        )


def _step_sizes(delta: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    if bias is not None:
        delta = delta + bias.to(delta.dtype)[:, None]
    return functional.softplus(delta) if softplus else delta


def _skip_and_gate(y: Tensor, u: Tensor, skip: Tensor | None, gate: Tensor | None, kind: torch.dtype) -> Tensor:
    if skip is not None:
        y = y + u.to(kind) * skip.to(kind)[:, None]
    if gate is not None:
        y = y * functional.silu(gate.to(kind))
    return y.to(u.dtype)


def _default_chunk(u: Tensor, n: int) -> int:
    """Return the steps per chunk: all on a CPU unless a step is tiny; few where every call launches a kernel."""
    length = max(u.shape[0], 1)
    if u.device.type != "cpu":
        return _DEVICE_CHUNK
    chunks = _STEP_LEAST // max(u[0].numel() * n, 1) if u.shape[0] else 1
    # Cutting doubles the arithmetic, so it must save several times as many calls.
    return length if chunks < 4 else max(16, math.ceil(length / chunks))


# --------------------------------------------------------------------------------------- optional accelerator


def _scan_accelerated(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    groups, channels = u.shape[2:]
    kernel = _accelerator()

    def batch_major(x: Tensor) -> Tensor:  # (L, B, G, x) -> (B, G, x, L)
        return x.permute(1, 2, 3, 0).contiguous()

    y = kernel(
        batch_major(u).flatten(1, 2),
        batch_major(delta).flatten(1, 2),
        A.flatten(0, 1),
        batch_major(B),
        batch_major(C),
    )
    return y.unflatten(1, (groups, channels)).permute(3, 0, 1, 2)


@functools.lru_cache(maxsize=1)
def _accelerator():
    """Return mamba_ssm's CUDA kernel if it is installed and agrees with the reference; else None. Tried once."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except Exception as error:  # noqa: BLE001 - a broken build raises more than ImportError
        _log.debug("mamba_ssm is not usable (%s); the plain scan is used.", error)
        return None
    if _accelerator_agrees(selective_scan_fn):
        return selective_scan_fn
    _log.warning("mamba_ssm's kernel disagrees with the reference on this machine; the plain scan is used.")
    return None


def _accelerator_agrees(kernel, device: str = "cuda") -> bool:
    """Compare output and gradients with the reference (tolerances of mamba_ssm's own test for float32)."""
    try:
        generator = torch.Generator().manual_seed(0)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
            draw = functools.partial(torch.randn, generator=generator)
            values = (
                draw(2, 8, 65),
                draw(2, 8, 65).abs(),
                -draw(8, 8).abs() - 0.1,
                draw(2, 2, 8, 65),
                draw(2, 2, 8, 65),
            )
            weight = draw(2, 8, 65).to(device)
            results = []
            for scan in (kernel, selective_scan_reference):
                leaves = [x.to(device).requires_grad_() for x in values]
                u, delta, rates, weight_in, weight_out = leaves
                y = scan(u, delta, rates, weight_in, weight_out)
                results.append([y, *torch.autograd.grad((y * weight).sum(), leaves)])
        return all(torch.allclose(a, b, rtol=6e-4, atol=2e-3) for a, b in zip(*results, strict=True))
    except Exception as error:  # noqa: BLE001 - a kernel built for another device fails at its first call
        _log.debug("mamba_ssm's self-test failed: %s", error)
        return False
