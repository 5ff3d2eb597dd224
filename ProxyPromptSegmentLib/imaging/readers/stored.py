"""What a file holds: voxels as stored, and what its header says about their place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The content of an image file.

    Attributes:
        array: Voxels ``(K, J, I)`` in their stored type, or ``(K, J, I, C)``.
        geometry: The grid, in LPS.
        has_spacing: Whether the header gives the size of a voxel.
        notes: Sentences for the user.
        palette: Colours by index, 0..255 ``(N, 3)``, if the values are indices of a palette.
    """

    array: npt.NDArray[Any]
    geometry: VolumeGeometry
    has_spacing: bool
    notes: tuple[str, ...] = ()
    palette: npt.NDArray[np.uint8] | None = field(default=None, compare=False)


def grid_from(affine: npt.NDArray[np.float64], size_ijk: tuple[int, int, int], name: str) -> VolumeGeometry:
    """Return the grid of a 4x4 matrix from indices to LPS.

    Raises:
        InputError: If it is none: a length of 0, NaN, axes that are not at right angles.
    """
    try:
        return VolumeGeometry.from_affine(affine, size_ijk)
    except GeometryError as error:
        raise InputError(f"{name}: {error}") from None


def too_many_axes(name: str, sizes: list[int]) -> InputError:
    """Return the error for a file of more than one volume."""
    return InputError(
        f"{name} has {len(sizes)} dimensions ({'x'.join(map(str, sizes))}); a volume has three. Export one time point "
        "or channel as a volume of its own."
    )


def wrong_channels(name: str, channels: int, kind: Any) -> InputError:
    """Return the error for values that are neither an intensity nor a colour."""
    return InputError(
        f"{name} has {channels} values per voxel ({kind}); one intensity or the three colours of 8 or 16 bits are "
        "allowed. Export the one channel to be segmented."
    )
