"""Augmented variants of a sheet: zoom, turn, shift, and changes of intensity, in the network's square.

Variants are embedded once, so that there are few of them, and each is drawn from its own seed. Mirrored are only
structures that lie as often on one side as on the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from ProxyPromptSegmentLib.support.sides import lies_on_both_sides
from ProxyPromptSegmentLib.training.adapting.sheets import Sheet

ZOOM, DEGREES, SHIFT, STRETCH = 0.22, 12.0, 0.08, 0.08  # log of the zoom; of half a side; log of the anisotropy
GAMMA, GAIN, OFFSET, FIELD, NOISE = 0.35, 0.2, 0.08, 0.2, 0.03
COLOUR, BLURRED = 0.05, 0.15


def may_be_mirrored(objects: Sequence[str], slices: Sequence[Sheet]) -> bool:
    """Return whether left and right may be exchanged in slices; see `lies_on_both_sides`."""
    return lies_on_both_sides(objects, [sheet.masks for sheet in slices])


def vary(
    image: torch.Tensor, masks: torch.Tensor, content: torch.Tensor, mirrored: bool, seed: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw a variant of a sheet.

    Args:
        image: ``(3, s, s)`` in 0..1.
        masks: 0 or 1, ``(N, s, s)``.
        content: Pixels that show the image and not its padding, bool ``(s, s)``.
        mirrored: Whether it is mirrored as well.
        seed: Numbers that determine the variant.

    Returns:
        The same three, changed.
    """
    rng = np.random.default_rng(list(seed))
    grid = _grid(image.shape[-1], mirrored, rng)
    joined = torch.cat([image, masks, content.unsqueeze(0).float()])[None]
    moved = functional.grid_sample(joined, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    inside = moved[-1] > 0.5
    return _recoloured(moved[:3], rng) * inside, (moved[3:-1] > 0.5).float() * inside, inside


def _grid(side: int, mirrored: bool, rng: np.random.Generator) -> torch.Tensor:
    """Draw where each pixel comes from, ``(1, s, s, 2)``."""
    angle = math.radians(rng.uniform(-DEGREES, DEGREES))
    zoom, stretch = math.exp(rng.uniform(-ZOOM, ZOOM)), math.exp(rng.uniform(-STRETCH, STRETCH))
    flip = -1.0 if mirrored else 1.0
    cos, sin = math.cos(angle), math.sin(angle)
    shift = rng.uniform(-SHIFT, SHIFT, 2)
    matrix = torch.tensor(
        [
            [flip * cos / (zoom * stretch), -sin * stretch / zoom, shift[0]],
            [flip * sin / (zoom * stretch), cos * stretch / zoom, shift[1]],
        ],
        dtype=torch.float32,
    )
    return functional.affine_grid(matrix[None], [1, 1, side, side], align_corners=False)


def _recoloured(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Change the intensities of an image ``(3, s, s)`` in 0..1."""
    side = image.shape[-1]
    x = image.clamp(min=1e-4) ** math.exp(rng.uniform(-GAMMA, GAMMA))
    coarse = torch.from_numpy(rng.normal(0, FIELD, (1, 1, 3, 3)).astype(np.float32))
    x = x * functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)[0].exp()
    x = x * (1 + rng.uniform(-GAIN, GAIN)) + rng.uniform(-OFFSET, OFFSET)
    x = x * torch.from_numpy(1 + rng.uniform(-COLOUR, COLOUR, (3, 1, 1)).astype(np.float32))
    if rng.random() < BLURRED:
        x = functional.avg_pool2d(functional.pad(x[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
    noise = rng.standard_normal((1, side, side), dtype=np.float32) * rng.uniform(0, NOISE)
    return (x + torch.from_numpy(noise)).clamp(0, 1)
