"""Selective scan: the input-dependent linear recurrence of Mamba, in plain torch, fast on one CPU core.

For every channel ``d``, state index ``s`` and time ``t``::

    h[t] = exp(delta[t] * A) * h[t-1] + delta[t] * u[t] * B[t]
    y[t] = sum_s C[t] * h[t] + D * u[t]

How it is computed (`_ScanFunction`). Time leads every tensor, ``(L, B, G, D)`` with ``G`` groups (directions) that
own ``B`` and ``C`` each, so that one step is one vectorised operation on contiguous memory. A few steps form a
*block* that stays in the processor's cache: its decays are computed in one go, then the recurrence runs in place.
Only the state at each block's start is kept; backward recomputes the states of a block and runs the adjoint, which
is the same recurrence in reverse time. The states of all L steps never exist at once, in training or in inference.

Where one step is too small to pay for a call (batch 1, few channels, or a GPU), time is cut into chunks that run as
additional batch entries: first from zero state to learn each chunk's end state, then, with the carried states, for
the output (the two-level scan). Only decays of at most 1 are multiplied; nothing is divided and no product is taken
in logarithms, so a large ``delta`` underflows to 0 and never to NaN.

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

__all__ = ["scan_time_major", "selective_scan", "selective_scan_reference"]

_LOG2E = math.log2(math.e)
_BLOCK_ELEMENTS = 3 << 17  # states per block: decays and states together stay in a core's share of the cache
_STEP_LEAST = 1 << 12  # states per step below which a CPU call costs more than its arithmetic
_STEP_MOST = 1 << 16  # states per step above which a block would hold too few steps; the batch is split instead
_BLOCK_STEPS = 4  # least steps per block, so that the kept states are at most a quarter of all
_DEVICE_CHUNK = 64  # steps per chunk where every call is a kernel launch

_log = logging.getLogger(__name__)


# ---------------------------------------------------------------------------------------------------- public functions


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
    """Runs the selective scan, in float32 (float64 for float64 input) also under autocast.

    Args:
        u: Input; shape ``(B, D, L)``.
        delta: Step sizes, not negative after bias and softplus; shape ``(B, D, L)``.
        A: Decay rates, at most 0; shape ``(D, n)``.
        B: Input weights; shape ``(B, n, L)``, or ``(B, G, n, L)`` with the D channels in G consecutive groups.
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
    with torch.autocast(u.device.type, enabled=False):

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
    """Runs the bare recurrence (no skip, gate or softplus) on tensors whose first axis is time.

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
        return _ScanFunction.apply(u, delta, rates, weight_in, weight_out, steps, keep)

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
    """Runs the scan step by step with autograd: slow, plain, the oracle of the tests. Arguments as `selective_scan`."""
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


# ------------------------------------------------------------------------------------------------------- around the scan


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
    """Steps per chunk: whole length on a CPU unless one step is tiny; short chunks where calls are launches."""
    length = max(u.shape[0], 1)
    if u.device.type != "cpu":
        return _DEVICE_CHUNK
    chunks = _STEP_LEAST // max(u[0].numel() * n, 1) if u.shape[0] else 1
    # Cutting doubles the arithmetic, so it must save several times as many calls.
    return length if chunks < 4 else max(16, math.ceil(length / chunks))


# ------------------------------------------------------------------------------------------------ the scan and its adjoint


class _ScanFunction(torch.autograd.Function):
    """The chunked scan with a hand-written backward. Rates ``(G, n, D)``, everything else ``(L, B, G, .)``."""

    @staticmethod
    def forward(ctx, u, delta, rates, weight_in, weight_out, steps, keep):
        length = u.shape[0]
        cut = _Cut(length, steps)
        u_c, delta_c, in_c, out_c = (cut.split(x) for x in (u, delta, weight_in, weight_out))
        scan = _Blocks(delta_c, rates, u_c, in_c)
        decay = start = None
        if cut.chunks > 1:
            decay = torch.exp2(delta_c.sum(0).unsqueeze(2) * scan.rates2)
            start = cut.carry(scan.end_state(), decay)
        y, kept = scan.output(out_c, start, keep)
        if keep:
            ctx.save_for_backward(u, delta, rates, weight_in, weight_out, kept, decay)
            ctx.steps = steps
        return cut.join(y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_y):
        u, delta, rates, weight_in, weight_out, kept, decay = ctx.saved_tensors
        cut = _Cut(u.shape[0], ctx.steps)
        u_c, delta_c, in_c, out_c, grad_c = (cut.split(x) for x in (u, delta, weight_in, weight_out, grad_y))
        scan = _Blocks(delta_c, rates, u_c, in_c)
        late = None
        if cut.chunks > 1:
            late = cut.carry(scan.end_adjoint(out_c, grad_c), decay, reverse=True)
        grad_u, grad_delta, grad_rates, grad_in, grad_out = scan.gradients(out_c, grad_c, kept, late)
        grads = (cut.join(x) for x in (grad_u, grad_delta, grad_in, grad_out))
        grad_u, grad_delta, grad_in, grad_out = grads
        return grad_u, grad_delta, grad_rates, grad_in, grad_out, None, None


class _Cut:
    """Cuts time into chunks that become batch entries, and carries states from chunk to chunk."""

    def __init__(self, length: int, steps: int) -> None:
        self.length = length
        self.steps = max(1, min(int(steps), max(length, 1)))
        self.chunks = max(1, math.ceil(length / self.steps))

    def split(self, x: Tensor) -> Tensor:
        """``(L, B, ...)`` -> ``(steps, chunks * B, ...)``; the end is padded with zeros, which leave states as they are."""
        if self.chunks == 1:
            return x.contiguous()
        padding = self.chunks * self.steps - self.length
        if padding:
            x = torch.cat([x, x.new_zeros(padding, *x.shape[1:])])
        x = x.unflatten(0, (self.chunks, self.steps)).transpose(0, 1)
        return x.flatten(1, 2).contiguous()

    def join(self, x: Tensor) -> Tensor:
        """The inverse of `split`."""
        if self.chunks == 1:
            return x
        return x.unflatten(1, (self.chunks, -1)).transpose(0, 1).flatten(0, 1)[: self.length]

    def carry(self, ends: Tensor, decay: Tensor, reverse: bool = False) -> Tensor:
        """State that enters each chunk, from what each chunk yields from zero state and its total decay."""
        ends, decay = (x.unflatten(0, (self.chunks, -1)) for x in (ends, decay))
        entering = torch.zeros_like(ends)
        order = range(self.chunks - 1, 0, -1) if reverse else range(self.chunks - 1)
        for c in order:
            torch.addcmul(ends[c], decay[c], entering[c], out=entering[c - 1 if reverse else c + 1])
        return entering.flatten(0, 1)


class _Blocks:
    """The recurrence over blocks of steps, with buffers that are allocated once and stay in cache.

    States have shape ``(M, G, n, D)``, M the batch times the chunks. ``exp2`` of rates scaled by log2(e) replaces
    ``exp``: torch's ``exp`` takes up to twice as long on processors its maths library was not tuned for.
    """

    def __init__(self, delta: Tensor, rates: Tensor, u: Tensor, weight_in: Tensor) -> None:
        self.delta, self.rates, self.weight_in = delta, rates, weight_in
        self.rates2 = rates * _LOG2E
        self.u, self.drive = u, delta * u
        self.length, self.batch, self.groups, self.channels = delta.shape
        self.n = rates.shape[1]
        self.state_shape = (self.batch, self.groups, self.n, self.channels)
        self.state_size = math.prod(self.state_shape)
        steps = max(_BLOCK_STEPS, _BLOCK_ELEMENTS // max(self.state_size, 1))
        self.block = max(1, min(self.length, steps))
        self.decays, self.states = (delta.new_empty(self.block, *self.state_shape) for _ in range(2))

    def spans(self) -> list[tuple[int, int]]:
        return [(t, min(t + self.block, self.length)) for t in range(0, self.length, self.block)]

    def _decay(self, t0: int, t1: int) -> Tensor:
        decays = self.decays[: t1 - t0]
        torch.mul(self.delta[t0:t1].unsqueeze(3), self.rates2, out=decays)
        return torch.exp2(decays, out=decays)

    def _forward_block(self, t0: int, t1: int, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Decays and states of the steps t0 to t1, from the state before t0."""
        decays = self._decay(t0, t1)
        states = self.states[: t1 - t0]
        torch.mul(self.drive[t0:t1].unsqueeze(3), self.weight_in[t0:t1].unsqueeze(4), out=states)
        previous = None if state is None else state.reshape(-1)
        for now, decay in zip(states.view(t1 - t0, -1).unbind(0), decays.view(t1 - t0, -1).unbind(0)):
            if previous is not None:
                now.addcmul_(decay, previous)
            previous = now
        return decays, states

    def end_state(self) -> Tensor:
        """State after the last step, from zero state."""
        state = None
        for t0, t1 in self.spans():
            state = self._forward_block(t0, t1, state)[1][-1].clone()
        return state

    def output(self, weight_out: Tensor, state: Tensor | None, keep: bool) -> tuple[Tensor, Tensor | None]:
        """Output ``(L, M, G, D)`` and, if kept, the state before every block."""
        y = torch.empty_like(self.u)
        spans = self.spans()
        kept = self.delta.new_empty(len(spans), *self.state_shape) if keep else None
        for index, (t0, t1) in enumerate(spans):
            if kept is not None:
                kept[index] = 0 if state is None else state
            _, states = self._forward_block(t0, t1, state)
            rows = weight_out[t0:t1].view(-1, 1, self.n)
            torch.bmm(rows, states.view(-1, self.n, self.channels), out=y[t0:t1].view(-1, 1, self.channels))
            state = states[-1].clone()
        return y, kept

    def _adjoint_block(
        self, t0: int, t1: int, decays: Tensor, weight_out: Tensor, grad_y: Tensor, late: Tensor | None, out: Tensor
    ) -> Tensor:
        """Gradients of the states t0 to t1; ``late`` is what the steps from t1 on send back to the state t1 - 1."""
        adjoint = out[: t1 - t0]
        torch.mul(grad_y[t0:t1].unsqueeze(3), weight_out[t0:t1].unsqueeze(4), out=adjoint)
        if late is not None:
            adjoint[-1].add_(late)
        rows, factors = adjoint.view(t1 - t0, -1).unbind(0), decays.view(t1 - t0, -1).unbind(0)
        for t in range(t1 - t0 - 2, -1, -1):
            rows[t].addcmul_(factors[t + 1], rows[t + 1])
        return adjoint

    def end_adjoint(self, weight_out: Tensor, grad_y: Tensor) -> Tensor:
        """What each chunk sends back to the state before it, from zero adjoint after it."""
        late = None
        for t0, t1 in reversed(self.spans()):
            decays = self._decay(t0, t1)
            adjoint = self._adjoint_block(t0, t1, decays, weight_out, grad_y, late, self.states)
            late = decays[0] * adjoint[0]
        return late

    def gradients(self, weight_out: Tensor, grad_y: Tensor, kept: Tensor, late: Tensor | None) -> tuple[Tensor, ...]:
        """Gradients of u, delta, rates, weight_in and weight_out.

        With g the adjoint of the state h: g[t] = C[t] dy[t] + a[t+1] g[t+1]; the gradient of the exponent is
        g[t] a[t] h[t-1], and everything else is a sum of products with g or h.
        """
        n, channels = self.n, self.channels
        adjoints, spare = torch.empty_like(self.states), torch.empty_like(self.states)
        grad_drive, grad_delta = torch.empty_like(self.u), torch.empty_like(self.u)
        grad_in, grad_out = torch.empty_like(self.weight_in), torch.empty_like(weight_out)
        grad_rates = self.delta.new_zeros(self.batch, self.groups, n, channels)
        for index, (t0, t1) in reversed(list(enumerate(self.spans()))):
            before = kept[index]
            decays, states = self._forward_block(t0, t1, before)
            adjoint = self._adjoint_block(t0, t1, decays, weight_out, grad_y, late, adjoints)
            wide = adjoint.view(-1, n, channels)
            # One row times a transposed matrix: the other orientation takes a path six times slower.
            torch.bmm(
                grad_y[t0:t1].view(-1, 1, channels),
                states.view(-1, n, channels).transpose(1, 2),
                out=grad_out[t0:t1].view(-1, 1, n),
            )
            torch.bmm(
                self.drive[t0:t1].view(-1, 1, channels), wide.transpose(1, 2), out=grad_in[t0:t1].view(-1, 1, n)
            )
            torch.bmm(self.weight_in[t0:t1].view(-1, 1, n), wide, out=grad_drive[t0:t1].view(-1, 1, channels))
            decays.mul_(adjoint)
            late = decays[0].clone()
            decays[0].mul_(before)
            decays[1:].mul_(states[:-1])
            product = torch.mul(decays, self.rates, out=spare[: t1 - t0])
            torch.sum(product, dim=3, out=grad_delta[t0:t1])
            for row, now in zip(decays.unbind(0), self.delta[t0:t1].unsqueeze(3).unbind(0)):
                grad_rates.addcmul_(row, now)
        grad_delta.addcmul_(grad_drive, self.u)
        return grad_drive.mul_(self.delta), grad_delta, grad_rates.sum(0), grad_in, grad_out


# ------------------------------------------------------------------------------------------------- optional accelerator


def _scan_accelerated(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    groups, channels = u.shape[2:]
    kernel = _accelerator()

    def batch_major(x: Tensor) -> Tensor:  # (L, B, G, x) -> (B, G, x, L)
        return x.permute(1, 2, 3, 0).contiguous()

    y = kernel(
        batch_major(u).flatten(1, 2), batch_major(delta).flatten(1, 2), A.flatten(0, 1), batch_major(B), batch_major(C)
    )
    return y.unflatten(1, (groups, channels)).permute(3, 0, 1, 2)


@functools.lru_cache(maxsize=1)
def _accelerator():
    """mamba_ssm's CUDA kernel if it is installed and agrees with the reference here; else None. Tried once."""
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
    """Compares output and gradients with the reference (tolerances of mamba_ssm's own test for float32)."""
    try:
        generator = torch.Generator().manual_seed(0)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
            draw = functools.partial(torch.randn, generator=generator)
            values = (
                draw(2, 8, 65), draw(2, 8, 65).abs(), -draw(8, 8).abs() - 0.1, draw(2, 2, 8, 65), draw(2, 2, 8, 65)
            )  # fmt: skip
            weight = draw(2, 8, 65).to(device)
            results = []
            for scan in (kernel, selective_scan_reference):
                leaves = [x.to(device).requires_grad_() for x in values]
                y = scan(*leaves)
                results.append([y, *torch.autograd.grad((y * weight).sum(), leaves)])
        return all(torch.allclose(a, b, rtol=6e-4, atol=2e-3) for a, b in zip(*results))
    except Exception as error:  # noqa: BLE001 - a kernel built for another device fails at its first call
        _log.debug("mamba_ssm's self-test failed: %s", error)
        return False
