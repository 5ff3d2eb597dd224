"""Distances between the borders of a mask and of its truth: HD95 and surface Dice.

Where the spacing is known, borders are those of the volume and distances are in millimetres. Where it is not, they are
those within each slice and distances are in pixels, because nobody knows how far apart the slices are.

A border is the set of pixels of a mask with a neighbour outside of it, over edges or faces, the edge of the image
included; each of them counts once. Distances are those between centres of pixels. SciPy computes the distance maps.
MONAI's metrics have the same definitions, and a test compares both.

References:
    Huttenlocher et al., Comparing images using the Hausdorff distance, 1993.
    Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and neck anatomy, 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError

Spacing = tuple[float, float, float]
PERCENTILE = 95
MM, PX = "mm", "px"


@dataclass(frozen=True, eq=False)
class BorderDistances:
    """How far each pixel of a border is from the other mask's border; infinite where the other one has none.

    Attributes:
        truth: From the truth's border to that of the mask, ``(B,)``.
        mask: From the mask's border to that of the truth, ``(C,)``.
        unit: ``"mm"`` or ``"px"``.
    """

    truth: npt.NDArray[np.float64]
    mask: npt.NDArray[np.float64]
    unit: str

    def hd95(self) -> float | None:
        """Return the larger of both 95th percentiles.

        None where it is not defined: one of both is empty, or lacks the other's border on slices with more than a
        twentieth of it.
        """
        if not len(self.truth) or not len(self.mask):
            return None
        with np.errstate(invalid="ignore"):  # between two infinite values a percentile is not a number
            both = [float(np.percentile(one, PERCENTILE)) for one in (self.truth, self.mask)]
        return max(both) if np.isfinite(both).all() else None

    def surface_dice(self, tolerance: float) -> float:
        """Return the share of both borders that lies near the other one; 1 if both are empty.

        Args:
            tolerance: Largest distance that still counts as near, in the distances' unit.
        """
        both = np.concatenate([self.truth, self.mask])
        return float(np.mean(both <= tolerance)) if len(both) else 1.0


def border_distances(truth: np.ndarray, mask: np.ndarray, spacing_mm: Spacing | None = None) -> BorderDistances:
    """Measure the distances between two borders.

    Args:
        truth: Reference mask, 0 or 1, ``(S, H, W)``.
        mask: Mask of the same shape.
        spacing_mm: Voxel size (slice, row, column); None if it is not known.

    Raises:
        InputError: If the shapes differ, or a spacing is not above 0.
    """
    truth, mask = np.asarray(truth).astype(bool), np.asarray(mask).astype(bool)
    if truth.shape != mask.shape or truth.ndim != 3:
        raise InputError(
            f"truth has shape {truth.shape}, mask {mask.shape}; both must share one shape of 3 axes (S, H, W). "
            "Resample one of them."
        )
    if spacing_mm is not None and not min(spacing_mm) > 0:
        raise InputError(f"the spacing is {spacing_mm} mm; it must be above 0. Leave it out where it is not known.")
    if spacing_mm is not None and len(truth) > 1:
        return BorderDistances(*_between(truth, mask, spacing_mm), MM)
    in_plane = (1.0, 1.0) if spacing_mm is None else spacing_mm[1:]
    found = [_between(one, other, in_plane) for one, other in zip(truth, mask, strict=True)]
    joined = [np.concatenate([pair[side] for pair in found]) for side in (0, 1)]
    return BorderDistances(joined[0], joined[1], PX if spacing_mm is None else MM)


def surface_dice(truth: np.ndarray, mask: np.ndarray, tolerance: float, spacing_mm: Spacing | None = None) -> float:
    """Return the surface Dice; see `border_distances` and `BorderDistances.surface_dice`."""
    return border_distances(truth, mask, spacing_mm).surface_dice(tolerance)


def _between(
    truth: npt.NDArray[np.bool_], mask: npt.NDArray[np.bool_], spacing: tuple[float, ...]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return both directed distances of masks with as many axes as the spacing has values."""
    from scipy.ndimage import binary_erosion, distance_transform_edt

    inside = _where(truth | mask)
    borders = []
    for whole in (truth[inside], mask[inside]):
        borders.append(whole & ~binary_erosion(whole))
    distances = []
    for mine, other in (borders, borders[::-1]):
        if not (mine.any() and other.any()):
            distances.append(np.full(int(np.count_nonzero(mine)), np.inf))
        else:
            distances.append(np.asarray(distance_transform_edt(~other, sampling=spacing), np.float64)[mine])
    return distances[0], distances[1]


def _where(either: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the box around both masks, outside of which no border lies."""
    box = []
    for axis in range(either.ndim):
        shown = np.flatnonzero(either.any(axis=tuple(n for n in range(either.ndim) if n != axis)))
        box.append(slice(int(shown[0]), int(shown[-1]) + 1) if len(shown) else slice(0, 0))
    return tuple(box)
