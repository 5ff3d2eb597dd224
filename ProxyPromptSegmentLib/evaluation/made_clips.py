"""Clips made of pictures, in which something happens that a memory is for.

The object moves smoothly; it is covered by something else, or lies in a shadow, leaves the picture and returns, or
another that looks like it appears. Training and measurement use the same four; they draw from different patients.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

COVERED, SHADOW, LEAVING, TWIN = "covered", "in a shadow", "leaves and returns", "two like objects"
EVENTS = (COVERED, SHADOW, LEAVING, TWIN)
DEGREES, ZOOM, SHIFT = 5.0, 0.08, 0.05  # of the motion between the middle of a clip and its ends: shift in half sides
GONE = 1.6  # how long it stays away: above 1, in parts of a sine
DARKEST, LIGHTEST = 0.1, 0.35  # what a shadow leaves of the intensity
TRIES = 24  # places for a second object
TWIN_DRIFT = 0.02  # of the side, per frame

Box = tuple[float, float, float, float]  # centre and half extent, as y, x, height, width in pixels


def smooth_motion(frames: int, shape: tuple[int, int], rng: np.random.Generator, much: float = 1.0) -> torch.Tensor:
    """Draw a smooth path of small rotations, magnifications and shifts.

    Args:
        frames: Number of frames ``T``.
        shape: Rows and columns of a frame.
        rng: Source of chance.
        much: Factor of the motion.

    Returns:
        Matrices from a moved frame's positions to the original's, in -1..1, ``(T, 2, 3)``.
    """
    along = np.linspace(-1, 1, frames)
    size = np.array([math.radians(DEGREES), ZOOM, SHIFT, SHIFT]) * much
    slope, bend = rng.normal(0, 0.7, (2, 4)) * size
    angle, zoom, right, down = (along[:, None] * slope + (1 - along[:, None] ** 2) * bend).T
    scale, aspect = np.exp(-zoom), shape[0] / shape[1]
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    rows = [np.stack([cos, -sin * aspect, right], 1), np.stack([sin / aspect, cos, down], 1)]
    return torch.from_numpy(np.stack(rows, 1).astype(np.float32))


def away_and_back(masks: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Draw a path on which the objects leave the picture over one of its sides and return; as `smooth_motion`."""
    frames, height, width = masks.shape[0], masks.shape[-2], masks.shape[-1]
    row, column, half_height, half_width = box_of(masks)
    far = [row + half_height, height - row + half_height, column + half_width, width - column + half_width]
    side = int(rng.integers(4))
    gone = np.clip(GONE * np.sin(math.pi * np.arange(frames) / max(1, frames - 1)), 0, 1)
    matrix = np.tile(np.eye(2, 3, dtype=np.float32), (frames, 1, 1))
    extent, axis = (height, 1) if side < 2 else (width, 0)
    matrix[:, axis, 2] = gone * 2.05 * far[side] / extent * (1 if side % 2 == 0 else -1)
    return torch.from_numpy(matrix)


def moved(pictures: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Move pictures ``(T, C, h, w)``; black outside."""
    grid = functional.affine_grid(matrices.to(pictures), list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def box_of(masks: torch.Tensor) -> Box:
    """Return the box around masks ``(T, N, h, w)`` of all frames; the middle of the picture if they are empty."""
    seen = (masks > 0.5).flatten(0, 1).any(0)
    height, width = seen.shape
    if not bool(seen.any()):
        return height / 2, width / 2, height / 8, width / 8
    rows, columns = (torch.nonzero(seen.any(axis)).flatten().float() for axis in (1, 0))
    return (
        float(rows[0] + rows[-1] + 1) / 2,
        float(columns[0] + columns[-1] + 1) / 2,
        float(rows[-1] - rows[0] + 1) / 2,
        float(columns[-1] - columns[0] + 1) / 2,
    )


def covered(frames: torch.Tensor, masks: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Move a patch of other tissue over the objects; what it hides is no longer part of them.

    Args:
        frames: ``(T, C, h, w)`` in 0..1.
        masks: 0 or 1, ``(T, N, h, w)``.
        rng: Source of chance.
    """
    weight = _crossing(frames, masks, rng, band=False, size=(0.7, 1.2))
    height, width = frames.shape[-2:]
    turn = (int(rng.integers(height // 4, height - height // 4)), int(rng.integers(width // 4, width - width // 4)))
    other = frames[:1].flip(-1).roll(turn, (-2, -1))
    return frames * (1 - weight) + other * weight, masks * (weight < 0.5)


def in_shadow(frames: torch.Tensor, masks: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Move a shadow over the objects, as bone or gas throws it in ultrasound; the objects stay; as `covered`."""
    weight = _crossing(frames, masks, rng, band=True, size=(0.8, 1.3))
    left = float(rng.uniform(DARKEST, LIGHTEST))
    return frames * (1 - weight * (1 - left)), masks


def _crossing(
    frames: torch.Tensor, masks: torch.Tensor, rng: np.random.Generator, band: bool, size: tuple[float, float]
) -> torch.Tensor:
    """Return how far an ellipse or an upright band that crosses the objects hides each pixel, ``(T, 1, h, w)``."""
    height, width = frames.shape[-2:]
    row, column, half_height, half_width = box_of(masks)
    tall, wide = (max(3.0, part * float(rng.uniform(*size))) for part in (half_height, half_width))
    angle = 0.0 if band else float(rng.uniform(0, 2 * math.pi))
    direction = float(rng.choice([-1, 1]))
    path = torch.linspace(-1, 1, len(frames), device=frames.device).view(-1, 1, 1, 1) * 2.2 * direction
    y = torch.arange(height, device=frames.device).view(1, 1, -1, 1) - row - path * math.sin(angle) * half_height
    x = torch.arange(width, device=frames.device).view(1, 1, 1, -1) - column - path * math.cos(angle) * half_width
    far = (x / wide).abs().expand(-1, -1, height, -1) if band else ((y / tall) ** 2 + (x / wide) ** 2).sqrt()
    edge = 2.0 / min(tall, wide)  # pixels over which it fades in
    return torch.sigmoid((1 - far) / edge * 2)


def with_twin(
    frames: torch.Tensor, masks: torch.Tensor, rng: np.random.Generator, first: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Let a copy of the first object appear elsewhere; None if there is no room for it.

    Args:
        frames: ``(T, C, h, w)`` in 0..1.
        masks: 0 or 1, ``(T, N, h, w)``.
        rng: Source of chance.
        first: Frame from which the copy is there.

    Returns:
        Frames, and the masks without what the copy hides of other objects.
    """
    height, width = frames.shape[-2:]
    row, column, half_height, half_width = box_of(masks[:, :1])
    ahead = len(frames) - first
    drift = rng.uniform(-1, 1, 2) * TWIN_DRIFT * min(height, width)
    if not bool((masks[:, 0] > 0.5).any()):
        return None
    for _ in range(TRIES):
        down, right = float(rng.uniform(0, height) - row), float(rng.uniform(0, width) - column)
        ends = [(down, right), (down + drift[0] * ahead, right + drift[1] * ahead)]
        inside = all(
            half_height < row + a < height - half_height and half_width < column + b < width - half_width
            for a, b in ends
        )
        apart = all(abs(a) > 2.1 * half_height or abs(b) > 2.1 * half_width for a, b in ends)
        if inside and apart:
            break
    else:
        return None
    soft = functional.avg_pool2d(functional.max_pool2d(masks[:, :1], 5, 1, 2), 5, 1, 2)
    pictures, kept = [], []
    for time, (frame, weight, mask) in enumerate(zip(frames, soft, masks, strict=True)):
        if time >= first:
            by = (round(down + drift[0] * (time - first)), round(right + drift[1] * (time - first)))
            there = weight.roll(by, (-2, -1))
            frame = frame * (1 - there) + frame.roll(by, (-2, -1)) * there
            mask = mask * (there < 0.5)
        pictures.append(frame)
        kept.append(mask)
    return torch.stack(pictures), torch.stack(kept)


def happen(
    event: str, frames: torch.Tensor, masks: torch.Tensor, rng: np.random.Generator, first: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Let one of `EVENTS` happen in a clip; None if there is no room for it.

    Args:
        event: What happens.
        frames: ``(T, C, h, w)`` in 0..1.
        masks: 0 or 1, ``(T, N, h, w)``.
        rng: Source of chance.
        first: Frame from which a second object is there.
    """
    if event == COVERED:
        return covered(frames, masks, rng)
    if event == SHADOW:
        return in_shadow(frames, masks, rng)
    if event == TWIN:
        return with_twin(frames, masks, rng, first)
    path = away_and_back(masks, rng)
    return moved(frames, path), (moved(masks, path) > 0.5).to(masks.dtype)
