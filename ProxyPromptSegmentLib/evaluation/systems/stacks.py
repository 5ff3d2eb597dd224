"""Cases as the registration reads them: grey slices in 0..1 on a grid in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.support.registration.prior import FEWEST_SLICES, MarkedStack
from ProxyPromptSegmentLib.support.registration.stack import Stack


def stack_of(case: Case) -> Stack:
    """Return a case as a stack; the mean of the colours, and distances of 1 where the spacing is not known."""
    unit = window_to_unit(case.images, intensity_window(case.images))
    grey = unit if unit.ndim == 3 else unit.mean(axis=-1)
    spacing = case.spacing_mm or (1.0, 1.0, 1.0)
    return Stack(np.asarray(grey, np.float32), spacing, measured=case.spacing_mm is not None)


def marked_stacks(cases: Sequence[Case]) -> list[MarkedStack]:
    """Return the annotated volumes among the cases."""
    return [MarkedStack(case.name, stack_of(case), case.masks) for case in cases if len(case.images) >= FEWEST_SLICES]
