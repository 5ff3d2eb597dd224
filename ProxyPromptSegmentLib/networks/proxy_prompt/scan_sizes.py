"""What a scan allocates, without its arithmetic: for estimates of memory on the device without storage.

The steps of a scan are thousands of small operations in place, which allocate nothing; this has the same large tensors.
"""

from __future__ import annotations

import math

import torch

from ProxyPromptSegmentLib.networks.proxy_prompt.scan_recurrence import _BLOCK_ELEMENTS, _BLOCK_STEPS


class ScanSizes(torch.autograd.Function):
    """The tensors of `ScanFunction`; its arguments are the same."""

    @staticmethod
    def forward(ctx, u, delta, rates, weight_in, weight_out, steps, keep):
        """Allocate what the forward pass has, and return an output ``(L, B, G, D)``."""
        steps = max(1, min(int(steps), u.shape[0]))
        ctx.state = (math.ceil(u.shape[0] / steps) * u.shape[1], rates.shape[0], *rates.shape[1:])
        ctx.block = max(1, min(steps, max(_BLOCK_STEPS, _BLOCK_ELEMENTS // math.prod(ctx.state))))
        work = [torch.empty_like(x) for x in (u, delta, u, weight_in, weight_out)]
        work += [u.new_empty(ctx.block, *ctx.state) for _ in range(2)]
        decay, start = u.new_empty(ctx.state), u.new_empty(ctx.state)
        y, kept = torch.empty_like(u), u.new_empty(math.ceil(steps / ctx.block), *ctx.state) if keep else None
        joined = torch.empty_like(u)
        if keep:
            ctx.save_for_backward(u, delta, rates, weight_in, weight_out, kept, decay)
        del work, start, y
        return joined

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_y):
        """Allocate what the backward pass has, and return gradients."""
        u, delta, rates, weight_in, weight_out, _, _ = ctx.saved_tensors
        work = [torch.empty_like(x) for x in (u, delta, u, weight_in, weight_out, grad_y)]
        work += [u.new_empty(ctx.block, *ctx.state) for _ in range(4)]
        inner = [torch.empty_like(x) for x in (u, delta, weight_in, weight_out)]
        summed = u.new_empty(ctx.state)
        grads = [torch.empty_like(x) for x in (u, delta, rates, weight_in, weight_out)]
        del work, inner, summed
        return (*grads, None, None)
