"""Augmentation on the device: geometry of image and masks together, then intensity.

Flips, quarter turns, inversion and the loss of colour act on a whole group, as they would change what the support
teaches; everything else differs between support and target, as it does between patients and scanners.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from ProxyPromptSegmentLib.training.broad.pools import SIDE

DEGREES = 20.0
STRETCH = 0.12  # log of the anisotropy
SHIFT = 0.12  # of half a side, beside what a magnification allows
KNOTS, CURVE, BEND = 6, 0.4, 0.5  # of a tone curve: its points, how often, standard deviation of the log of its slopes
COIL, COIL_GAIN, COIL_WIDTH = 0.2, 4.0, (0.25, 0.7)  # of a bright spot: how often, largest gain, widths in half sides
SHARPENED, SHARPENING = 0.25, 1.5  # how often, and largest share of the fine detail that is added
MIRROR, QUARTER_TURN, INVERSION, GREY = 0.4, 0.2, 0.12, 0.35  # probabilities for a group
TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How far each of ``B`` images is changed; all tensors are on the device.

    Attributes:
        group: Number of the group of each image, int64 ``(B,)``.
        groups: Number of groups.
        zoom: Smallest and largest magnification, ``(B, 2)``.
        elastic: Standard deviation of the elastic field, in half sides, ``(B,)``.
        intensity: Factor of all changes of intensity, ``(B,)``.
    """

    group: torch.Tensor
    groups: int
    zoom: torch.Tensor
    elastic: torch.Tensor
    intensity: torch.Tensor


def uniform(like: torch.Tensor, low: float, high: float, *shape: int) -> torch.Tensor:
    """Draw evenly distributed numbers on the device of ``like``."""
    return torch.rand(*shape, device=like.device) * (high - low) + low


def smooth_noise(like: torch.Tensor, count: int, channels: int, points: int, side: int = SIDE) -> torch.Tensor:
    """Draw smooth random fields of unit variance at their control points, ``(count, channels, side, side)``."""
    coarse = torch.randn(count, channels, points, points, device=like.device)
    return functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)


def sampling_grid(strength: Strength) -> torch.Tensor:
    """Draw where each pixel of the augmented images comes from, in -1 to 1, ``(B, SIDE, SIDE, 2)``."""
    like, group = strength.zoom, strength.group
    count = len(group)
    angle = uniform(like, -DEGREES, DEGREES, count) * math.pi / 180
    low, high = strength.zoom.log().unbind(1)
    scale = torch.exp(low + torch.rand_like(low) * (high - low))
    stretch = torch.exp(uniform(like, -STRETCH, STRETCH, count))
    mirror = torch.where(uniform(like, 0, 1, strength.groups) < MIRROR, -1.0, 1.0)[group]
    cos, sin = torch.cos(angle), torch.sin(angle)
    # affine_grid maps output to input positions, so a magnification is divided by.
    sx, sy = 1 / (scale * stretch), stretch / scale
    far = SHIFT + (1 - 1 / scale).clamp(min=0) * 0.6
    tx, ty = uniform(like, -1, 1, count) * far, uniform(like, -1, 1, count) * far
    matrix = torch.stack(
        [torch.stack([cos * sx * mirror, -sin * sy, tx], 1), torch.stack([sin * sx * mirror, cos * sy, ty], 1)], 1
    )
    turned = uniform(like, 0, 1, strength.groups) < QUARTER_TURN
    turn = torch.where(turned, torch.randint(0, 4, (strength.groups,), device=like.device), 0)[group]
    rotation = torch.tensor(TURNS, dtype=matrix.dtype, device=like.device).view(4, 2, 2)[turn]
    grid = functional.affine_grid(torch.bmm(rotation, matrix), [count, 1, SIDE, SIDE], align_corners=False)
    field = smooth_noise(like, count, 2, 6) * strength.elastic.view(-1, 1, 1, 1)
    return grid + field.permute(0, 2, 3, 1)


def warp(pictures: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Sample pictures ``(B, C, s, s)`` of any side at a grid; black outside."""
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def content_mask(content: torch.Tensor, side: int, grid: torch.Tensor) -> torch.Tensor:
    """Return which pixels of the augmented square show the image and not its padding, bool ``(B, SIDE, SIDE)``.

    Args:
        content: Rows and columns that each image fills in its square, ``(B, 2)``.
        side: Side of the square.
        grid: See `sampling_grid`.
    """
    last = content.float() / side * 2 - 1
    x, y = grid[..., 0], grid[..., 1]
    inside = (x >= -1) & (y >= -1)
    return inside & (x <= last[:, 1].view(-1, 1, 1)) & (y <= last[:, 0].view(-1, 1, 1))


def tone_curve(images: torch.Tensor) -> torch.Tensor:
    """Map the intensities of each image ``(B, 3, s, s)`` by a random rising curve from 0 to 1.

    Tissues keep their order and lose their contrast: between sequences and coils it differs more than a gamma does.
    """
    count = len(images)
    steps = torch.exp(BEND * torch.randn(count, KNOTS - 1, device=images.device))
    heights = functional.pad(steps.cumsum(1) / steps.sum(1, keepdim=True), (1, 0))
    place = images.clamp(0, 1).flatten(1) * (KNOTS - 1)
    before = place.long().clamp(max=KNOTS - 2)
    low, high = heights.gather(1, before), heights.gather(1, before + 1)
    return (low + (place - before) * (high - low)).view_as(images)


def bright_spot(images: torch.Tensor) -> torch.Tensor:
    """Draw the gain of a coil near the skin or in the rectum for each image: ``(B, 1, s, s)``, about 1 on average."""
    count, side = len(images), images.shape[-1]
    line = torch.linspace(-1, 1, side, device=images.device)
    middle = uniform(images, -1, 1, 2, count, 1, 1)
    distance = (line.view(1, side, 1) - middle[0]).square() + (line.view(1, 1, side) - middle[1]).square()
    gain = uniform(images, 1, COIL_GAIN, count, 1, 1) - 1
    field = 1 + gain * torch.exp(-distance / (2 * uniform(images, *COIL_WIDTH, count, 1, 1).square()))
    return (field / field.mean((1, 2), keepdim=True)).unsqueeze(1)


def change_intensity(images: torch.Tensor, strength: Strength) -> torch.Tensor:
    """Change images ``(B, 3, SIDE, SIDE)`` in 0..1; the result is in 0..1."""
    count, group = len(images), strength.group
    much = strength.intensity.view(-1, 1, 1, 1)

    def each(low: float, high: float, channels: int = 1) -> torch.Tensor:
        return uniform(images, low, high, count, channels, 1, 1)

    def of_group(probability: float) -> torch.Tensor:
        return (uniform(images, 0, 1, strength.groups) < probability)[group].view(-1, 1, 1, 1)

    x = torch.where(of_group(INVERSION), 1 - images, images)
    x = torch.where(of_group(GREY), x.mean(1, keepdim=True).expand_as(x), x)
    x = x.clamp(min=1e-4) ** torch.exp(each(-0.5, 0.5) * much)
    x = torch.where(each(0, 1) < CURVE, tone_curve(x), x)
    field = torch.exp(smooth_noise(images, count, 1, 3) * each(0.1, 0.5))
    x = torch.where(each(0, 1) < 0.4, x * field, x)
    x = torch.where(each(0, 1) < COIL, x * bright_spot(x), x)
    x = x / x.amax((1, 2, 3), keepdim=True).clamp(min=1e-3)  # a window follows the brightest tissue
    x = x * (1 + each(-0.3, 0.35) * much) + each(-0.12, 0.12) * much
    x = x * (1 + each(-0.06, 0.06, 3) * much)
    blurred = functional.avg_pool2d(functional.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)
    kind = each(0, 1)
    x = torch.where(kind < SHARPENED, x + (x - blurred) * each(0, SHARPENING), x)
    x = torch.where(kind > 0.75, blurred, x)
    # Another site's slice may have half of the resolution.
    small = functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2, mode="bilinear", align_corners=False)
    x = torch.where(each(0, 1) < 0.12, small, x)
    noise = torch.randn(count, 1, SIDE, SIDE, device=images.device) * each(0, 0.06)
    return (x + noise).clamp(0, 1)
