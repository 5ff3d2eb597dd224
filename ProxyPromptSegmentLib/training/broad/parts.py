"""Masks made of an object's mask, so that its shape and place have to be read: sides, cores, rims; and drawn shapes.

Without them a model draws the whole organ, whatever part of it the support marks.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from ProxyPromptSegmentLib.training.broad.augment import smooth_noise, uniform
from ProxyPromptSegmentLib.training.broad.pools import SIDE

PARTS = ("side", "core", "rim")
PART_CHANCES = (0.55, 0.3, 0.15)


def _moments(mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return area, pixel coordinates and centre of masks ``(n, 1, s, s)``; an empty mask has area 1."""
    side = mask.shape[-1]
    y = torch.arange(side, device=mask.device, dtype=torch.float32).view(1, 1, side, 1)
    x = y.transpose(-2, -1)
    area = mask.sum((1, 2, 3), keepdim=True).clamp(min=1)
    middle_y = (mask * y).sum((1, 2, 3), keepdim=True) / area
    middle_x = (mask * x).sum((1, 2, 3), keepdim=True) / area
    return area, y - middle_y, x - middle_x


def side_of(mask: torch.Tensor, angle: float, offset: float) -> torch.Tensor:
    """Return what lies beyond a line across the object.

    Args:
        mask: 0 or 1, ``(n, 1, s, s)``.
        angle: Direction of the line's normal in radians, of all masks the same.
        offset: Distance of the line from the centre, in standard deviations of the mask along the normal.
    """
    area, y, x = _moments(mask)
    along = x * math.cos(angle) + y * math.sin(angle)
    deviation = ((mask * along * along).sum((1, 2, 3), keepdim=True) / area).sqrt()
    return mask * (along > deviation * offset)


def core_of(mask: torch.Tensor, share: float) -> torch.Tensor:
    """Return the inner part of each mask, about ``share`` of its area: its pixels farthest from what is outside.

    A distance costs one pass for each pixel of it; a blur as wide as the object ranks its pixels nearly as well.
    """
    area, y, x = _moments(mask)
    depth = torch.zeros_like(mask)
    for width in (9, 17, 33):
        depth = depth + functional.avg_pool2d(mask, width, 1, width // 2)
    # The centre breaks ties inside of objects that are larger than the widest blur.
    depth = depth - 0.15 * (x * x + y * y) / area
    inside = torch.where(mask > 0, depth, depth.new_full((), -1e4)).flatten(1)
    count = (area.flatten() * share).long().clamp(min=1, max=inside.shape[1] - 1)
    sorted_depth = inside.sort(dim=1, descending=True).values
    level = sorted_depth.gather(1, count.view(-1, 1)).view(-1, 1, 1, 1)
    return mask * (depth > level)


def random_part(mask: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return a part of each mask ``(n, 1, s, s)``, chosen in the same way for all of them."""
    kind = rng.choice(PARTS, p=PART_CHANCES)
    if kind == "side":
        angle = (float(rng.choice([0, 90, 180, 270])) + float(rng.normal(0, 10))) * math.pi / 180
        return side_of(mask, angle, float(rng.choice([0, 0, 0.5, -0.5])))
    core = core_of(mask, float(rng.uniform(0.3, 0.65)))
    return core if kind == "core" else mask * (1 - core)


def drawn_images(like: torch.Tensor, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw images of random regions with random grey values, and masks of two of the regions.

    Args:
        like: A tensor on the device.
        count: Images of the group; each is deformed and shaded differently.
        rng: Source of chance.

    Returns:
        Images ``(count, 3, SIDE, SIDE)`` in 0..1 and masks ``(count, 2, SIDE, SIDE)``.
    """
    regions, points = int(rng.integers(3, 14)), int(rng.integers(3, 12))
    base, own = smooth_noise(like, 1, regions, points), smooth_noise(like, count, regions, points)
    label = (base + 0.35 * own).argmax(1)
    grey = uniform(like, 0, 1, 1, regions) + 0.06 * torch.randn(count, regions, device=like.device)
    texture = uniform(like, 0, 0.15, 1, regions).expand(count, -1)
    shape = (count, 1, SIDE, SIDE)
    image = torch.gather(grey.clamp(0, 1), 1, label.flatten(1)).view(shape)
    roughness = torch.gather(texture, 1, label.flatten(1)).view(shape)
    fine = int(rng.choice([32, 64, 128]))
    noise = functional.interpolate(
        torch.randn(count, 1, fine, fine, device=like.device), size=(SIDE, SIDE), mode="bilinear", align_corners=False
    )
    first, second = (int(n) for n in rng.choice(regions, 2, replace=False))
    masks = torch.stack([label == first, label == second], 1)
    if rng.random() < 0.25:
        masks[:, 0] |= label == int(rng.integers(regions))
    return (image + roughness * noise).clamp(0, 1).expand(-1, 3, -1, -1), masks.float()
