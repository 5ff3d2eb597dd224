"""A sentence where nothing in an image resembles the support, or hardly anything, although a mask was drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.calibration import EVIDENCE
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.calibration import Calibration


def nearest_of(evidence: npt.NDArray[np.float32] | None) -> float:
    """Return the smallest distance of slices to their supports, for evidence ``(..., E)``; NaN if none is known."""
    if evidence is None:
        return float("nan")
    distances = evidence[..., EVIDENCE.index("distance")]
    known = distances[np.isfinite(distances)]
    return float(known.min()) if known.size else float("nan")


def note_if_unlike(nearest: float, calibration: Calibration | None, found: bool) -> Note | None:
    """Return a note if no slice resembles the supports.

    Args:
        nearest: The result of `nearest_of` over all slices or frames.
        calibration: The calibration of the weights; without one, it is not known how far is too far.
        found: Whether a mask was drawn anyway.
    """
    if calibration is None or not nearest > calibration.unlike:
        return None
    usual = f"{calibration.unlike:.1f} is usual at most"
    far = f"the nearest slice is at a distance of {nearest:.1f} to the support, where {usual}"
    text = (
        f"The image hardly resembles the support ({far}), although something was drawn. Review it with particular care."
        if found
        else f"Nothing in this image resembles the support: {far}."
    )
    return Note(text, Remedy(kind=RemedyKind.CHOOSE_SUPPORT))
