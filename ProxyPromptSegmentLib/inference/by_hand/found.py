"""What is asked for and what is found when everything on a slice is segmented; no torch is needed for either."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import UsageError

MOST_POINTS = 128
MOST_LABELS = 2000
"""Labels of all slices of a target together, unless the user chooses another limit."""


QUALITY, STABILITY = 0.7, 0.9
"""Least quality and stability of the masks of official weights."""

COMPACT_QUALITY, COMPACT_STABILITY = 0.1, 0.5
"""The same of the compact models, whose estimates are lower and whose edges are softer; see Docs/results/clicks.md."""


@dataclass(frozen=True, kw_only=True)
class EverythingChoice:
    """Which masks are kept.

    Attributes:
        points: Points along each side of the grid.
        quality: Least estimated intersection over union, 0..1; None for that of the model, see `of_model`.
        stability: Least intersection over union of the masks at logits of 1 and -1, 0..1; None likewise.
        apart: Whether only the best of masks that cut each other into pieces is kept; None: for the compact models,
            whose masks of one thing differ more than those of official weights.
        least_pixels: Least area in pixels.
        most: Largest number of masks on a slice; the best ones are kept.
        batch: Points that are decoded together; halved when memory runs out.

    Raises:
        UsageError: If a value is not allowed.
    """

    points: int = 16
    quality: float | None = None
    stability: float | None = None
    apart: bool | None = None
    least_pixels: int = 20
    most: int = 100
    batch: int = 64

    def __post_init__(self) -> None:
        """Validate the values."""
        if not 1 <= self.points <= MOST_POINTS:
            raise UsageError(f"{self.points} points per side were requested; allowed are 1 to {MOST_POINTS}.")
        for name, value in (("quality", self.quality), ("stability", self.stability)):
            if value is not None and not 0 <= value < 1:
                raise UsageError(f"the least {name} is {value:g}; allowed are 0 to below 1.")
        if min(self.most, self.batch) < 1 or self.least_pixels < 0:
            raise UsageError(
                f"at most {self.most} masks of at least {self.least_pixels} pixels were requested; give at least 1 "
                "mask and 0 or more pixels."
            )

    def of_model(self, compact: bool) -> EverythingChoice:
        """Return the choice with the limits of a model where none are given; ``compact``: a compact model or not."""
        quality, stability = (COMPACT_QUALITY, COMPACT_STABILITY) if compact else (QUALITY, STABILITY)
        return replace(
            self,
            quality=quality if self.quality is None else self.quality,
            stability=stability if self.stability is None else self.stability,
            apart=compact if self.apart is None else self.apart,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FoundMask:
    """A mask of something that a slice shows.

    Attributes:
        mask: bool ``(H, W)``.
        quality: Estimated intersection over union.
        stability: See `EverythingChoice`.
        row: Row of the point that found it.
        column: Column likewise.
    """

    mask: npt.NDArray[np.bool_]
    quality: float
    stability: float
    row: float
    column: float
