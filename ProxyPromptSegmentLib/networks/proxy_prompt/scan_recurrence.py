"""The recurrence behind the selective scan and its adjoint, written by hand for speed on one CPU core.

Time leads every tensor, ``(L, B, G, D)`` with ``G`` groups (directions) that own ``B`` and ``C`` each, so
that one step is one vectorised operation on contiguous memory. A few steps form a *block* that stays in
the processor's cache: its decays are computed in one go, then the recurrence runs in place. Only the
state at each block's start is kept; backward recomputes the states of a block and runs the adjoint, which
is the same recurrence in reverse time. The states of all L steps never exist at once, in training or in
inference.

Where one step is too small to pay for a call (batch 1 with few channels, or a GPU), time is cut into
chunks that run as additional batch entries: first from zero state to learn each chunk's end state, then,
with the carried states, for the output (the two-level scan). Only decays of at most 1 are multiplied;
nothing is divided and no product is taken in logarithms, so a large ``delta`` underflows to 0 and never
to NaN.

References:
    Gu and Dao, Mamba (2023), section 3.2 and algorithm 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["ScanFunction"]

_LOG2E = math.log2(math.e)
_BLOCK_ELEMENTS = 3 << 17  # states per block: its decays and states stay in a core's share of the cache
_BLOCK_STEPS = 4  # least steps per block, so that the kept states are at most a quarter of all


class ScanFunction(torch.autograd.Function):
    """The chunked scan with a hand-written backward; rates ``(G, n, D)``, all else ``(L, B, G, .)``."""

    @staticmethod
    def forward(ctx, u, delta, rates, weight_in, weight_out, steps, keep):
        """Compute the output ``(L, B, G, D)``; keep the state before each block if ``keep``."""
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
        """Compute the gradients of all tensor inputs: the adjoint is the same recurrence in reverse."""
        u, delta, rates, weight_in, weight_out, kept, decay = ctx.saved_tensors
        cut = _Cut(u.shape[0], ctx.steps)
        u_c, delta_c, in_c, out_c, grad_c = (cut.split(x) for x in (u, delta, weight_in, weight_out, grad_y))
        scan = _Blocks(delta_c, rates, u_c, in_c)
        late = None
        if cut.chunks > 1:
            late = cut.carry(scan.end_adjoint(out_c, grad_c), decay, reverse=True)
        grad_u, grad_delta, grad_rates, grad_in, grad_out = scan.gradients(out_c, grad_c, kept, late)
        return (
            cut.join(grad_u),
            cut.join(grad_delta),
            grad_rates,
            cut.join(grad_in),
            cut.join(grad_out),
            None,
            None,
        )


class _Cut:
    """Cuts time into chunks that become batch entries, and carries states from chunk to chunk."""

    def __init__(self, length: int, steps: int) -> None:
        self.length = length
        self.steps = max(1, min(int(steps), max(length, 1)))
        self.chunks = max(1, math.ceil(length / self.steps))

    def split(self, x: Tensor) -> Tensor:
        """Reshape ``(L, B, ...)`` to ``(steps, chunks * B, ...)``, padded with zeros, which leave a state unchanged."""
        if self.chunks == 1:
            return x.contiguous()
        padding = self.chunks * self.steps - self.length
        if padding:
            x = torch.cat([x, x.new_zeros(padding, *x.shape[1:])])
        x = x.unflatten(0, (self.chunks, self.steps)).transpose(0, 1)
        return x.flatten(1, 2).contiguous()

    def join(self, x: Tensor) -> Tensor:
        """Invert `split`."""
        if self.chunks == 1:
            return x
        return x.unflatten(1, (self.chunks, -1)).transpose(0, 1).flatten(0, 1)[: self.length]

    def carry(self, ends: Tensor, decay: Tensor, reverse: bool = False) -> Tensor:
        """Return the state that enters each chunk, from each chunk's result for a zero state and its total decay."""
        ends, decay = (x.unflatten(0, (self.chunks, -1)) for x in (ends, decay))
        entering = torch.zeros_like(ends)
        order = range(self.chunks - 1, 0, -1) if reverse else range(self.chunks - 1)
        for c in order:
            torch.addcmul(ends[c], decay[c], entering[c], out=entering[c - 1 if reverse else c + 1])
        return entering.flatten(0, 1)


class _Blocks:
    """The recurrence over blocks of steps, with buffers that are allocated once and stay in cache.

    States have shape ``(M, G, n, D)``, M the batch times the chunks. ``exp2`` of rates scaled by log2(e)
    replaces ``exp``, which takes up to twice as long on processors its maths library was not tuned for.
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
        """Compute decay and states of the steps t0 to t1, from the state before t0."""
        decays = self._decay(t0, t1)
        states = self.states[: t1 - t0]
        torch.mul(self.drive[t0:t1].unsqueeze(3), self.weight_in[t0:t1].unsqueeze(4), out=states)
        previous = None if state is None else state.reshape(-1)
        for now, decay in zip(states.view(t1 - t0, -1).unbind(0), decays.view(t1 - t0, -1).unbind(0), strict=True):
            if previous is not None:
                now.addcmul_(decay, previous)
            previous = now
        return decays, states

    def end_state(self) -> Tensor:
        """Compute the state after the last step, from a zero state."""
        state = self.delta.new_zeros(self.state_shape)
        for t0, t1 in self.spans():
            state = self._forward_block(t0, t1, state)[1][-1].clone()
        return state

    def output(self, weight_out: Tensor, state: Tensor | None, keep: bool) -> tuple[Tensor, Tensor | None]:
        """Compute the output ``(L, M, G, D)`` and, if kept, the state before every block."""
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
        self,
        t0: int,
        t1: int,
        decays: Tensor,
        weight_out: Tensor,
        grad_y: Tensor,
        late: Tensor | None,
        out: Tensor,
    ) -> Tensor:
        """Compute the gradient of the states t0 to t1; ``late`` is the gradient from the steps after t1 at t1 - 1."""
        adjoint = out[: t1 - t0]
        torch.mul(grad_y[t0:t1].unsqueeze(3), weight_out[t0:t1].unsqueeze(4), out=adjoint)
        if late is not None:
            adjoint[-1].add_(late)
        rows, factors = adjoint.view(t1 - t0, -1).unbind(0), decays.view(t1 - t0, -1).unbind(0)
        for t in range(t1 - t0 - 2, -1, -1):
            rows[t].addcmul_(factors[t + 1], rows[t + 1])
        return adjoint

    def end_adjoint(self, weight_out: Tensor, grad_y: Tensor) -> Tensor:
        """Compute each chunk's gradient of the state before it, from a zero adjoint after it."""
        late = self.delta.new_zeros(self.state_shape)
        for t0, t1 in reversed(self.spans()):
            decays = self._decay(t0, t1)
            adjoint = self._adjoint_block(t0, t1, decays, weight_out, grad_y, late, self.states)
            late = decays[0] * adjoint[0]
        return late

    def gradients(self, weight_out: Tensor, grad_y: Tensor, kept: Tensor, late: Tensor | None) -> tuple[Tensor, ...]:
        """Compute the gradients of u, delta, rates, weight_in and weight_out.

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
                self.drive[t0:t1].view(-1, 1, channels),
                wide.transpose(1, 2),
                out=grad_in[t0:t1].view(-1, 1, n),
            )
            torch.bmm(self.weight_in[t0:t1].view(-1, 1, n), wide, out=grad_drive[t0:t1].view(-1, 1, channels))
            decays.mul_(adjoint)
            late = decays[0].clone()
            decays[0].mul_(before)
            decays[1:].mul_(states[:-1])
            product = torch.mul(decays, self.rates, out=spare[: t1 - t0])
            torch.sum(product, dim=3, out=grad_delta[t0:t1])
            for row, now in zip(decays.unbind(0), self.delta[t0:t1].unsqueeze(3).unbind(0), strict=True):
                grad_rates.addcmul_(row, now)
        grad_delta.addcmul_(grad_drive, self.u)
        return grad_drive.mul_(self.delta), grad_delta, grad_rates.sum(0), grad_in, grad_out
