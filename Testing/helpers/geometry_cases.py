"""Any regular grid, for hypothesis, and the same voxels stored in another order."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ProxyPromptSegmentLib.imaging.geometry import (
    VolumeGeometry,
)

spacings = st.floats(0.05, 12.0)


places = st.floats(-500.0, 500.0)


@st.composite
def rotations(draw: st.DrawFn) -> np.ndarray:
    """A rotation from a quaternion, or one of the 48 axis-aligned turns; mirrored in half of the cases."""
    if draw(st.booleans()):
        order = draw(st.permutations(range(3)))
        signs = draw(st.lists(st.sampled_from((-1.0, 1.0)), min_size=3, max_size=3))
        return np.eye(3)[:, order] * signs
    q = np.array(draw(st.lists(st.floats(-1, 1), min_size=4, max_size=4)))
    q = q / np.linalg.norm(q) if np.linalg.norm(q) > 0.1 else np.array([1.0, 0, 0, 0])
    w, x, y, z = q
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return turn * np.array([1, 1, draw(st.sampled_from((-1.0, 1.0)))])


@st.composite
def geometries(draw: st.DrawFn, largest: int = 9) -> VolumeGeometry:
    """Any regular grid: oblique, flipped, anisotropic."""
    size = draw(st.tuples(*[st.integers(1, largest)] * 3))
    spacing = draw(st.tuples(spacings, spacings, spacings))
    origin = draw(st.tuples(places, places, places))
    return VolumeGeometry(size, spacing, origin, draw(rotations()))


def turned(geometry: VolumeGeometry, order: tuple[int, ...], flips: tuple[bool, ...]) -> VolumeGeometry:
    """The same voxels with index axes i, j, k in another order and some reversed."""
    columns = geometry.direction[:, order].copy()
    size = tuple(geometry.size_ijk[n] for n in order)
    spacing = tuple(geometry.spacing_mm[n] for n in order)
    corner = np.zeros(3)
    for axis, (n, flip) in enumerate(zip(order, flips, strict=True)):
        if flip:
            columns[:, axis] *= -1
            corner[n] = geometry.size_ijk[n] - 1
    return VolumeGeometry(size, spacing, tuple(geometry.index_to_lps(corner)), columns)


def turned_array(array: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]) -> np.ndarray:
    """The array that goes with ``turned``."""
    kji = tuple(2 - n for n in reversed(order))
    return np.transpose(array, kji)[tuple(slice(None, None, -1 if f else 1) for f in reversed(flips))]
