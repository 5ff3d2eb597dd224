"""SAM's own prompts for training: clicks, boxes and masks made of the truth and of a prediction's errors.

Everything has a fixed shape and asks the host for nothing, so that a step can be one CUDA graph. The package's prompt
encoder indexes by conditions, which cannot be captured; `embed_prompts` is the same computation without them, and a
test compares both.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.training.broad.augment import smooth_noise

NONE, OUTSIDE, INSIDE, CORNER_LOW, CORNER_HIGH = -1, 0, 1, 2, 3  # labels of prompt points, as SAM has them
LOGIT_LIMIT = 8.0  # of a mask prompt; a prediction's own logits can be far larger
BOX_JITTER = 0.08  # of the box's sides
WRONG_MASK = 0.1  # share of mask prompts that belong to another target, so that they are not believed blindly


def embed_prompts(encoder: nn.Module, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Embed clicks and corners of boxes.

    Args:
        encoder: SAM's prompt encoder.
        points: Pixel positions ``(x, y)`` in the square, ``(M, P, 2)``.
        labels: See the names above, int64 ``(M, P)``.

    Returns:
        Tokens ``(M, P, C)``.
    """
    with torch.autocast(points.device.type, enabled=False):  # angles of many turns, which bfloat16 cannot hold
        place = encoder.pe_layer.forward_with_coords(points + 0.5, encoder.input_image_size)
    kinds = [encoder.not_a_point_embed.weight, *(kind.weight for kind in encoder.point_embeddings)]
    kind = torch.cat(kinds)[labels + 1]
    return torch.where((labels == NONE).unsqueeze(-1), kind, place.to(kind.dtype) + kind)


def random_pixel(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a pixel of each mask.

    Args:
        mask: 0 or 1, ``(M, h, w)``.

    Returns:
        Positions ``(x, y)`` float ``(M, 2)``, and whether there is one, bool ``(M,)``.
    """
    width = mask.shape[-1]
    score = (mask * (torch.rand_like(mask) + 1e-3)).flatten(1)
    best, index = score.max(dim=1)
    place = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], 1)
    return place.float(), best > 0


def first_clicks(truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one click inside of each object ``(M, s, s)``: points ``(M, 1, 2)`` and labels ``(M, 1)``."""
    place, there = random_pixel(truth)
    return place.unsqueeze(1), torch.where(there, INSIDE, NONE).unsqueeze(1)


def correcting_clicks(logits: torch.Tensor, truth: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw clicks where a prediction is wrong.

    Args:
        logits: ``(M, s, s)``.
        truth: 0 or 1, ``(M, s, s)``.
        count: Clicks of each target.

    Returns:
        Points ``(M, count, 2)`` and labels ``(M, count)``; `NONE` where nothing is wrong.
    """
    wrong = ((logits > 0).float() - truth).abs()
    drawn = [random_pixel(wrong) for _ in range(count)]
    points = torch.stack([place for place, _ in drawn], 1)
    index = (points[..., 1] * truth.shape[-1] + points[..., 0]).long()
    inside = truth.flatten(1).gather(1, index) > 0.5
    labels = torch.where(inside, INSIDE, OUTSIDE)
    there = torch.stack([found for _, found in drawn], 1)
    return points, torch.where(there, labels, NONE)


def boxes(truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a shaken box around each object ``(M, s, s)``: corners ``(M, 2, 2)`` and labels ``(M, 2)``."""
    side = truth.shape[-1]
    index = torch.arange(side, device=truth.device, dtype=torch.float32)
    low, high = [], []
    for axis in (1, 2):  # any along rows gives columns, x first
        occupied = truth.amax(axis) > 0.5
        low.append(torch.where(occupied, index, index.new_full((), float(side))).amin(1))
        high.append(torch.where(occupied, index, index.new_full((), -1.0)).amax(1))
    corners = torch.stack([torch.stack(low, 1), torch.stack(high, 1)], 1)
    extent = (corners[:, 1] - corners[:, 0]).clamp(min=1).unsqueeze(1)
    corners = (corners + (torch.rand_like(corners) * 2 - 1) * BOX_JITTER * extent).clamp(0, side - 1)
    there = (truth.flatten(1).amax(1) > 0.5).unsqueeze(1)
    labels = torch.arange(
        CORNER_LOW, CORNER_HIGH + 1, device=truth.device
    )  # a tensor of a list would wait for the host
    return corners, torch.where(there, labels, NONE)


def rough_masks(truth: torch.Tensor, side: int) -> torch.Tensor:
    """Make of the truth what a registered or hand-drawn mask is like: displaced, blurred, of doubtful strength.

    Args:
        truth: 0 or 1, ``(M, s, s)``.
        side: Side of the mask prompt.

    Returns:
        Logits ``(M, side, side)``.
    """
    count = len(truth)
    draw = torch.rand(count, 6, device=truth.device)
    strength = draw[:, :1].square().view(-1, 1, 1, 1)
    scale = torch.exp((draw[:, 1] * 2 - 1) * 0.25 * draw[:, 0])
    shift = (draw[:, 2:4] * 2 - 1) * 0.1 * draw[:, :1]
    matrix = torch.zeros(count, 2, 3, device=truth.device)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2] = scale, scale, shift
    with torch.autocast(truth.device.type, enabled=False):  # bfloat16 would round positions to whole pixels
        grid = functional.affine_grid(matrix, [count, 1, side, side], align_corners=False)
        grid = grid + (smooth_noise(truth, count, 2, 6, side) * 0.08 * strength).permute(0, 2, 3, 1)
        moved = functional.grid_sample(truth.unsqueeze(1), grid, mode="bilinear", align_corners=False)
    blurred = functional.avg_pool2d(moved, 9, 1, 4)
    moved = torch.where((draw[:, 4] < 0.6).view(-1, 1, 1, 1), blurred, moved)[:, 0]
    other = (draw[:, 5] < WRONG_MASK).view(-1, 1, 1)
    moved = torch.where(other, moved.roll(1, 0), moved)
    return torch.logit(moved.clamp(1e-3, 1 - 1e-3)).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
