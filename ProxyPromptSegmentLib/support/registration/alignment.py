"""The affine step: a placement is improved by its local correlation, a factor, an angle or a shift at a time.

SimpleITK's gradient descent on mutual information loses objects on few slices: with eight slices most of its
samples leave the target when it tilts them. Six numbers that keep slices parallel, and steps that are taken only if
they help, do not; Docs/results/registration.md has both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.support.registration.placement import Placement
from ProxyPromptSegmentLib.support.registration.similarity import LocalCorrelation
from ProxyPromptSegmentLib.support.registration.stack import Box, Stack

SAMPLES = 40
"""Samples along the longer side of the box within the plane; they fix the resolution of the registration."""

MOST_LAYERS = 24
_LEAST_INSIDE = 0.4  # share of the samples that must lie in the target
ROUNDS, _REPEATS = 4, 4
_STIFFNESS = 0.125  # cost of a factor of e, or of a radian, squared


@dataclass(frozen=True)
class Aligned:
    """A placement with its local correlation, -1..1."""

    placement: Placement
    similarity: float


def working_pixel(support: Stack, box: Box) -> float:
    """Return the pixel size in mm, in the support, at which an object is registered."""
    sides = [(high - low) * mm for (low, high), mm in zip(box[1:], support.spacing[1:], strict=True)]
    return max(max(sides) / SAMPLES, *support.spacing[1:])


def align(
    support: Stack,
    box: Box,
    target: Stack,
    starts: Sequence[Placement],
    stopped: Callable[[], bool] = lambda: False,
    rounds: int = ROUNDS,
) -> Aligned:
    """Improve the most promising of several placements.

    Args:
        support: The annotated volume.
        box: The object and what is around it, which alone is compared.
        target: The volume to register it to.
        starts: See `placement.candidates`.
        stopped: Whether to return what was found so far.
        rounds: How often the steps are halved; 1 suffices to compare placements.
    """
    cost = _Cost(support, box, target, starts[0].size)
    rise = 0.06 * target.extent[0]
    tried = [
        (cost.of(one, (dz, 0, 0, 0, 0, 0)), number, dz) for number, one in enumerate(starts) for dz in (-rise, 0, rise)
    ]
    _, number, dz = min(tried)
    start = starts[number]
    best = np.array([dz, 0.0, 0.0, 0.0, 0.0, 0.0])
    lowest = cost.of(start, best)
    pixel = cost.pixel * start.size
    steps = np.array([max(0.5 * target.spacing[0], 0.05 * target.extent[0]), 1.6 * pixel, 1.6 * pixel, 0.15, 0.1, 0.1])
    for _ in range(rounds):
        for _ in range(_REPEATS):
            before = lowest
            for axis in (1, 2, 0, 3, 5, 4):
                for sign in (1.0, -1.0):
                    if stopped():
                        return Aligned(_moved(start, best), cost.similarity(_moved(start, best)))
                    trial = best.copy()
                    trial[axis] += sign * steps[axis]
                    value = cost.of(start, trial)
                    if value < lowest - 1e-5:
                        lowest, best = value, trial
                        break
            if lowest == before:
                break
        steps /= 2
    return Aligned(_moved(start, best), cost.similarity(_moved(start, best)))


def _moved(start: Placement, by: npt.ArrayLike) -> Placement:
    """Return a placement changed by shifts in mm (slice, row, column), logarithms of size and height, and an angle."""
    dz, dy, dx, size, height, turn = (float(value) for value in np.asarray(by))
    z, y, x = start.place
    return Placement(
        start.centre,
        (z + dz, y + dy, x + dx),
        start.height * float(np.exp(height)),
        start.size * float(np.exp(size)),
        start.turn + turn,
    )


class _Cost:
    """The disagreement of a support's box with the target, for any placement."""

    def __init__(self, support: Stack, box: Box, target: Stack, size: float) -> None:
        from scipy import ndimage

        self.pixel = working_pixel(support, box)
        part = support.crop(box).shrink(self.pixel)
        layers = max(1, int(np.ceil(part.array.shape[0] / MOST_LAYERS)))
        axes = [
            o + np.arange(0, n * mm - mm / 2, step)
            for o, n, mm, step in zip(
                part.origin, part.array.shape, part.spacing, (layers * part.spacing[0], self.pixel, self.pixel),
                strict=True,
            )
        ]  # fmt: skip
        self.points = np.stack(np.meshgrid(*axes, indexing="ij"))
        self.shape = self.points.shape[1:]
        small = target.shrink(self.pixel * size)
        self.target = small.with_array(_smooth(small, self.pixel * size))
        sampled = ndimage.map_coordinates(
            _smooth(part, self.pixel), part.index(self.points).reshape(3, -1), order=1, mode="nearest"
        ).reshape(self.shape)
        self.compare = LocalCorrelation(sampled)

    def of(self, start: Placement, by: npt.ArrayLike) -> float:
        """Return the cost of a changed placement; it grows with the change, so that flat images stay in place."""
        change = np.asarray(by, np.float64)[3:]
        return _STIFFNESS * float(np.square(change).sum()) - self.similarity(_moved(start, by))

    def similarity(self, placement: Placement) -> float:
        """Return the mean local correlation; -1 if most of the box lies outside of the target."""
        from scipy import ndimage

        index = self.target.index(placement.apply(self.points))
        size = np.reshape(self.target.array.shape, (3, 1, 1, 1))
        inside = ((index > -1) & (index < size)).all(axis=0)
        if inside.mean() < _LEAST_INSIDE:
            return -1.0
        seen = ndimage.map_coordinates(self.target.array, index.reshape(3, -1), order=1, mode="nearest")
        return float((self.compare.at(seen.reshape(self.shape)) * inside).mean())


def _smooth(stack: Stack, pixel_mm: float) -> npt.NDArray[np.float32]:
    """Return slices smoothed to pixels of a size."""
    from scipy import ndimage

    sigmas = [0.0, *(0.5 * max(0.0, pixel_mm / mm) for mm in stack.spacing[1:])]
    result: npt.NDArray[np.float32] = ndimage.gaussian_filter(stack.array, sigmas)
    return result
