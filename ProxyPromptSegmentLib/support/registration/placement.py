"""Where an object of a support may lie in a target: template matching of in-plane gradients.

Gradients ignore what coils and patients change slowly over an image. Their correlation is found for every shift at once
by a Fourier transform, for a few sizes of the object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.support.registration.stack import Box, Stack

if TYPE_CHECKING:
    import SimpleITK as sitk

SCALES = (0.85, 1.0, 1.2)
CANDIDATES = 4
MOST_PIXELS = 64
"""Rows or columns of the target while it is searched."""

MOST_SLICES = 40
_SHIFT = 0.15  # share of the target's height by which an object may lie higher or lower than in the support
_SMALLEST = 5  # pixels of a template


@dataclass(frozen=True)
class Placement:
    """A turn within the plane, a shift and two factors, from the support's mm to the target's.

    Attributes:
        centre: Point of the support that the others are taken from: slice, row, column, in mm.
        place: Where it lies in the target, in mm.
        height: Factor of distances between slices.
        size: Factor of distances within the plane.
        turn: Angle within the plane in radians.
    """

    centre: tuple[float, float, float]
    place: tuple[float, float, float]
    height: float = 1.0
    size: float = 1.0
    turn: float = 0.0

    def matrix(self) -> npt.NDArray[np.float64]:
        """Return the linear part, for slices, rows and columns, ``(3, 3)``."""
        cos, sin = np.cos(self.turn) * self.size, np.sin(self.turn) * self.size
        return np.array([[self.height, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])

    def apply(self, points_mm: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Map points of the support ``(3, ...)`` to the target."""
        flat = points_mm.reshape(3, -1) - np.reshape(self.centre, (3, 1))
        return (self.matrix() @ flat + np.reshape(self.place, (3, 1))).reshape(points_mm.shape)

    def from_target(self) -> sitk.AffineTransform:
        """Return the inverse as SimpleITK resamples with it: from the target's points to the support's."""
        import SimpleITK as sitk

        inverse = np.linalg.inv(self.matrix())[::-1, ::-1]  # columns, rows, slices
        transform = sitk.AffineTransform(3)
        transform.SetCenter(self.place[::-1])
        transform.SetMatrix(inverse.ravel().tolist())
        transform.SetTranslation([c - p for c, p in zip(self.centre[::-1], self.place[::-1], strict=True)])
        return transform


def candidates(support: Stack, box: Box, target: Stack) -> list[Placement]:
    """Return likely placements, the best first, and last the one that lays the middles on each other.

    Args:
        support: The annotated volume.
        box: The object and what is around it.
        target: The volume to find it in.
    """
    small = target.shrink(max(target.extent[1:]) / MOST_PIXELS, target.extent[0] / MOST_SLICES)
    part = support.crop(box)
    centre = _middle(part)
    found: list[tuple[float, Placement]] = []
    scale, height = _factors(support, target)
    rise = max(1, round(_SHIFT * small.array.shape[0]))
    padded = np.pad(small.array, ((rise, rise), (0, 0), (0, 0)), mode="edge")
    seen = _gradients(padded)
    for size in (scale * factor for factor in SCALES):
        template = _resized(part, small, size, height)
        score = _correlation(seen, _gradients(template))
        # The object lies about as high in the field of view as in the support's.
        share = (centre[0] + support.spacing[0] / 2 - support.origin[0]) / support.extent[0]
        first = share * small.array.shape[0] - 0.5 - (template.shape[0] - 1) / 2 + rise
        low = int(np.clip(round(first - rise), 0, score.shape[0] - 1))
        high = int(np.clip(round(first + rise) + 1, low + 1, score.shape[0]))
        score = score[low:high]
        for _ in range(CANDIDATES):
            at = np.unravel_index(int(np.argmax(score)), score.shape)
            index = [at[0] + low - rise, at[1], at[2]]
            z, y, x = (
                o + (n + (k - 1) / 2) * mm
                for o, n, k, mm in zip(small.origin, index, template.shape, small.spacing, strict=True)
            )
            found.append((float(score[at]), Placement(centre, (float(z), float(y), float(x)), height, size)))
            score = score.copy()
            score[:, max(0, at[1] - 4) : at[1] + 5, max(0, at[2] - 4) : at[2] + 5] = -1.0
    found.sort(key=lambda pair: -pair[0])
    straight = Placement(_middle(support), _middle(target), height, scale)
    z, y, x = (float(v) for v in straight.apply(np.array(centre)))
    return [one for _, one in found[:CANDIDATES]] + [Placement(centre, (z, y, x), height, scale)]


def _middle(stack: Stack) -> tuple[float, float, float]:
    """Return the centre of a stack in mm."""
    z, y, x = (o + (n - 1) * mm / 2 for o, n, mm in zip(stack.origin, stack.array.shape, stack.spacing, strict=True))
    return z, y, x


def _factors(support: Stack, target: Stack) -> tuple[float, float]:
    """Return the factors within the plane and across it: 1 where both have mm, else by the fields of view.

    Two volumes without known distances count as having pixels of the same size, but not slices of the same distance.
    """
    if support.measured and target.measured:
        return 1.0, 1.0
    size = 1.0
    if support.measured != target.measured:
        size = float(np.sqrt(np.prod(target.extent[1:]) / np.prod(support.extent[1:])))
    return size, target.extent[0] / support.extent[0]


def _resized(part: Stack, like: Stack, size: float, height: float) -> npt.NDArray[np.float32]:
    """Return the part of the support with the target's voxels, enlarged by the factors; never beyond the target."""
    from scipy import ndimage

    factors = (height, size, size)
    shape = [
        int(np.clip(round(n * mm * f / wide), least, most))
        for n, mm, f, wide, least, most in zip(
            part.array.shape, part.spacing, factors, like.spacing, (2, _SMALLEST, _SMALLEST), like.array.shape,
            strict=True,
        )
    ]  # fmt: skip
    sigmas = [
        0.0 if axis == 0 else max(0.0, wide / (mm * size) / 2)
        for axis, (mm, wide) in enumerate(zip(part.spacing, like.spacing, strict=True))
    ]
    smooth = ndimage.gaussian_filter(part.array, sigmas)
    zoom = [a / b for a, b in zip(shape, smooth.shape, strict=True)]
    result: npt.NDArray[np.float32] = ndimage.zoom(smooth, zoom, order=1, mode="nearest", grid_mode=True)
    return result


def _gradients(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the derivatives along rows and columns of slightly smoothed slices, ``(2, S, H, W)``."""
    from scipy import ndimage

    return np.stack(np.gradient(ndimage.gaussian_filter(array, (0, 1, 1)), axis=(1, 2)))


def _correlation(seen: npt.NDArray[np.float32], template: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the correlation of gradients for every place where the template fits."""
    from scipy import fft, ndimage  # scipy.signal, which has such a function, takes two seconds to import

    shape, size = template.shape[1:], seen.shape[1:]
    padded = [fft.next_fast_len(n, real=True) for n in size]  # what wraps around lies beyond the places that fit
    image, one = (fft.rfftn(array, padded, axes=(1, 2, 3)) for array in (seen, template))
    fitting = tuple(slice(n - m + 1) for n, m in zip(size, shape, strict=True))
    product = fft.irfftn((image * one.conj()).sum(axis=0), padded)[fitting]
    strength = ndimage.uniform_filter(np.square(seen).sum(axis=0), shape, mode="constant") * np.prod(shape)
    inner = tuple(slice(n // 2, n // 2 + m) for n, m in zip(shape, product.shape, strict=True))
    strength = strength[inner]
    weakest = 0.01 * float(strength.max())  # where there is nothing, noise must not win
    scale = np.sqrt(np.maximum(strength, weakest) * np.square(template).sum()) + 1e-9
    result: npt.NDArray[np.float64] = product / scale
    return result
