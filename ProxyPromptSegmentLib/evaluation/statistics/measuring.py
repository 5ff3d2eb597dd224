"""From the truth and a mask to scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.evaluation.statistics.surfaces import border_distances
from ProxyPromptSegmentLib.imaging.metrics import dice

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case

TOLERANCE = 2.0
"""Of the surface Dice: in millimetres where the spacing is known, else in pixels."""


def scores_of(
    masks: np.ndarray,
    case: Case,
    *,
    table: str,
    system: str,
    draw: int = 0,
    seconds: float = 0.0,
    confidence: Sequence[float | None] | None = None,
    tolerance: float = TOLERANCE,
) -> list[Score]:
    """Score a system's masks of one case, a score for each object.

    Args:
        masks: What the system drew, 0 or 1, ``(S, N, H, W)``; the shape of ``case.masks``.
        case: The case with its truth. Its spacing, where known, gives distances in millimetres.
        table: Name of the table, such as ``"T2"``.
        system: Name of the system.
        draw: Number of the draw.
        seconds: Processor seconds of the masks.
        confidence: What the system said of its mask of each object, 0..1.
        tolerance: Of the surface Dice, in millimetres or pixels.

    Raises:
        InputError: If the shapes differ, or a confidence is not 0..1.
    """
    masks = np.asarray(masks)
    if masks.shape != case.masks.shape:
        raise InputError(
            f"{system} drew masks of shape {masks.shape} on {case.name or case.patient}, whose truth has shape "
            f"{case.masks.shape}; both must be (S, N, H, W). Bring the masks to the grid of the case."
        )
    said = list(confidence) if confidence is not None else [None] * len(case.objects)
    found = []
    for n, (name, sure) in enumerate(zip(case.objects, said, strict=True)):
        if sure is not None and not 0 <= sure <= 1:
            raise InputError(f"{system} said {sure} of '{name}'; a confidence is 0 to 1, or None where it has none.")
        truth, drawn = case.masks[:, n], masks[:, n]
        distances = border_distances(truth, drawn, case.spacing_mm)
        hd95 = distances.hd95()
        overlap = dice(truth, drawn)
        found.append(
            Score(
                table=table,
                system=system,
                dataset=case.dataset,
                object=name,
                patient=case.patient,
                case=case.name,
                draw=draw,
                dice=round(overlap, 6),
                iou=round(iou_of(overlap), 6),
                hd95=None if hd95 is None else round(hd95, 6),
                surface=round(distances.surface_dice(tolerance), 6),
                unit=distances.unit,
                seconds=round(seconds, 3),
                confidence=None if sure is None or math.isnan(sure) else round(float(sure), 6),
            )
        )
    return found


def iou_of(dice_value: float) -> float:
    """Return the intersection over union that belongs to a Dice, ``D / (2 - D)``; of two empty masks both are 1."""
    return dice_value / (2 - dice_value)
