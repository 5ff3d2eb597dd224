"""The only place that scales intensities and sizes: image, mask and contextual encoder share it.

A slice is windowed to 0..1, resized so that its physical aspect ratio is kept, and placed in the upper left
corner of a square (the *letterbox* of Segment Anything); MedSAM and SAM 2's official weights were trained on images
squashed to the square instead. Logits go the same way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.imaging.intensity import window_to_unit

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Letterbox:
    """Where a slice lies in the square that the networks see.

    Attributes:
        size: Side of the square in pixels.
        shape: Rows and columns of the slice.
        spacing_mm: Pixel size (row, column); only the ratio matters.
        keep_aspect: False fills the whole square, whatever becomes of the proportions.
    """

    size: int
    shape: tuple[int, int]
    spacing_mm: tuple[float, float] = (1.0, 1.0)
    keep_aspect: bool = True

    @property
    def valid(self) -> tuple[int, int]:
        """Rows and columns of the square that the slice fills; the rest is padding."""
        if not self.keep_aspect:
            return self.size, self.size
        height = self.shape[0] * self.spacing_mm[0]
        width = self.shape[1] * self.spacing_mm[1]
        factor = self.size / max(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))


def images_to_tensor(images: np.ndarray, window: tuple[float, float], box: Letterbox) -> torch.Tensor:
    """Prepare slices for every encoder.

    Args:
        images: Intensities as acquired, ``(S, H, W)`` or ``(S, H, W, 3)``.
        window: Intensities mapped to 0 and 1.
        box: The letterbox of these slices.

    Returns:
        float32 ``(S, 3, size, size)`` in 0..1, padded with 0.
    """
    import torch
    from torch.nn import functional

    unit = torch.from_numpy(np.ascontiguousarray(window_to_unit(images, window)))
    channels = unit.unsqueeze(1) if unit.ndim == 3 else unit.movedim(-1, 1)
    rows, columns = box.valid
    if (rows, columns) != tuple(channels.shape[-2:]):
        channels = functional.interpolate(
            channels, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True
        )
    padded = functional.pad(channels, (0, box.size - columns, 0, box.size - rows))
    return padded.expand(-1, 3, -1, -1)


def masks_to_tensor(masks: np.ndarray, box: Letterbox) -> torch.Tensor:
    """Prepare masks in the same way as their images: resized by area, then binarised.

    Args:
        masks: uint8 ``(S, N, H, W)``.
        box: The letterbox of these slices.

    Returns:
        float32 ``(S, N, size, size)``, 0 or 1. An object thinner than a pixel of the square keeps the
        pixels that it fills at least half as much as its best-filled one, so that it does not vanish.
    """
    import torch
    from torch.nn import functional

    tensor = torch.from_numpy(np.ascontiguousarray(masks)).float()
    rows, columns = box.valid
    if (rows, columns) != tuple(tensor.shape[-2:]):
        tensor = functional.interpolate(
            tensor, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True
        )
        best = tensor.amax(dim=(-2, -1), keepdim=True)
        tensor = ((tensor >= 0.5 * best.clamp(max=1.0)) & (best > 0)).float()
    return functional.pad(tensor, (0, box.size - columns, 0, box.size - rows))


def logits_to_slice(logits: torch.Tensor, box: Letterbox) -> torch.Tensor:
    """Map logits of the square back to the slice.

    Args:
        logits: ``(..., h, w)`` over the whole square, any resolution.
        box: The letterbox of the slice.

    Returns:
        ``(..., H, W)``, linearly interpolated; padding is cut off.
    """
    from torch.nn import functional

    leading = logits.shape[:-2]
    flat = logits.reshape(1, -1, *logits.shape[-2:]).float()
    square = functional.interpolate(flat, size=(box.size, box.size), mode="bilinear", align_corners=False)
    rows, columns = box.valid
    inside = square[..., :rows, :columns]
    if (rows, columns) != tuple(box.shape):
        inside = functional.interpolate(inside, size=box.shape, mode="bilinear", align_corners=False)
    return inside.reshape(*leading, *box.shape)


def points_to_square(points: np.ndarray, box: Letterbox) -> np.ndarray:
    """Map points of the slice to the square.

    Args:
        points: ``(x, y)`` in pixels of the slice, column and row, whole numbers for centres of pixels, ``(..., 2)``.
        box: The letterbox of the slice.

    Returns:
        ``(x, y)`` in pixels of the square, with the same convention, float32 ``(..., 2)``.
    """
    rows, columns = box.valid
    height, width = box.shape
    return ((points + 0.5) * np.array((columns / width, rows / height)) - 0.5).astype(np.float32)


def valid_tokens(box: Letterbox, grid: int) -> torch.Tensor:
    """Mark the feature positions that cover at least part of the slice; bool ``(grid, grid)``."""
    import torch

    rows, columns = box.valid
    stride = box.size / grid
    inside = torch.zeros(grid, grid, dtype=torch.bool)
    inside[: int(np.ceil(rows / stride)), : int(np.ceil(columns / stride))] = True
    return inside
