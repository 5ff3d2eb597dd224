"""Augmentation of training images: geometry of image and mask together, then intensity."""

from __future__ import annotations

import math

import torch
from torch.nn import functional


def _uniform(generator: torch.Generator, count: int, low: float, high: float) -> torch.Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def random_affine(
    images: torch.Tensor,
    masks: torch.Tensor,
    generator: torch.Generator,
    degrees: float = 15.0,
    zoom: tuple[float, float] = (0.75, 1.5),
    shift: float = 0.1,
    flip: torch.Tensor | None = None,
    middle: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate, zoom (with some anisotropy), shift and mirror each image independently.

    Args:
        images: ``(B, T, h, w)``; the frames of one clip are moved together.
        masks: ``(B, N, h, w)``, 0 or 1.
        generator: Source of chance.
        degrees: Largest rotation.
        zoom: Smallest and largest magnification, drawn on a log scale.
        shift: Largest shift, as a share of the side.
        flip: Which images may be mirrored left to right, bool ``(B,)``.
        middle: The point that rotation and zoom leave in place, x and y in -1..1 over the square, ``(B, 2)``; by
            default its centre.

    Returns:
        Images, and masks thresholded at one half.
    """
    count = images.shape[0]
    angle = _uniform(generator, count, -degrees, degrees) * math.pi / 180
    scale = torch.exp(_uniform(generator, count, math.log(zoom[0]), math.log(zoom[1])))
    stretch = torch.exp(_uniform(generator, count, -0.1, 0.1))
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    mirror = torch.ones(count) if flip is None else torch.where(flip, mirror, torch.ones(count))
    # affine_grid maps output to input positions, so a magnification is divided by.
    sx, sy = 1 / (scale * stretch), stretch / scale
    cos, sin = torch.cos(angle), torch.sin(angle)
    row_x = torch.stack([cos * sx * mirror, -sin * sy, _uniform(generator, count, -2 * shift, 2 * shift)], dim=1)
    row_y = torch.stack([sin * sx * mirror, cos * sy, _uniform(generator, count, -2 * shift, 2 * shift)], dim=1)
    matrix = torch.stack([row_x, row_y], dim=1)
    if middle is not None:
        turned = (matrix[:, :, :2] @ middle.unsqueeze(2))[:, :, 0]
        matrix = torch.cat([matrix[:, :, :2], (matrix[:, :, 2] + middle - turned).unsqueeze(2)], dim=2)
    grid = functional.affine_grid(matrix, list(images.shape[:1]) + [1, *images.shape[2:]], align_corners=False)
    moved = functional.grid_sample(
        torch.cat([images, masks], dim=1), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    frames = images.shape[1]
    return moved[:, :frames], (moved[:, frames:] > 0.5).float()


def middle_of(content: torch.Tensor) -> torch.Tensor:
    """Return the centre of what is not padding, bool ``(B, 1, h, w)``, as x and y in -1..1 over the square, (B, 2)."""
    height, width = content.shape[-2:]
    rows, columns = content.any(3).sum((1, 2)), content.any(2).sum((1, 2))
    return torch.stack([columns / width - 1, rows / height - 1], dim=1).float()


def valid_positions(content: torch.Tensor, grid: int) -> torch.Tensor:
    """Return the positions of a grid, bool ``(B, g, g)``, that show any of the pixels ``(B, 1, s, s)`` of an image."""
    return functional.max_pool2d(content.float(), content.shape[-1] // grid)[:, 0] > 0


def random_intensity(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Apply gamma, contrast, a smooth bias field, blur and noise; values stay in 0..1.

    Args:
        images: ``(B, 1, h, w)`` in 0..1, or ``(B, 3, h, w)``, whose channels change alike but for the noise.
        generator: Source of chance.
    """
    count, _, height, width = images.shape

    def column(low: float, high: float) -> torch.Tensor:
        return _uniform(generator, count, low, high).view(-1, 1, 1, 1)

    def chosen(probability: float) -> torch.Tensor:
        return (torch.rand(count, generator=generator) < probability).view(-1, 1, 1, 1)

    changed = images.clamp(min=1e-4) ** torch.exp(column(-0.5, 0.5))
    changed = changed * column(0.75, 1.3) + column(-0.1, 0.1)
    coarse = torch.randn(count, 1, 3, 3, generator=generator) * 0.3
    field = torch.exp(functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False))
    changed = torch.where(chosen(0.4), changed * field, changed)
    blurred = functional.avg_pool2d(functional.pad(changed, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    changed = torch.where(chosen(0.2), blurred, changed)
    noise = torch.randn(images.shape, generator=generator) * column(0.0, 0.06)
    return (changed + noise).clamp(0, 1)
