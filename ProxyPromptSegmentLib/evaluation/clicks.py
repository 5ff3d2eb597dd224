"""A simulated user who corrects a slice click by click, and how many clicks it takes until the mask is good.

The next click is put in the middle of the largest error: inside the object where a piece of it is missing, outside of
it where too much is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.by_hand.decode import HandAnswer, corrected, nothing_yet
from ProxyPromptSegmentLib.inference.by_hand.prompts import HandPrompt, Point
from ProxyPromptSegmentLib.inference.results import THRESHOLD, SlicePrediction
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices, SliceEncoder
from ProxyPromptSegmentLib.networks.values import Prompt

GOOD = 0.9
"""Dice that the user wants."""
MOST_CLICKS = 10
"""Clicks after which the user gives up."""


@dataclass(frozen=True)
class Course:
    """How a slice was corrected.

    Attributes:
        dice: Dice after 0, 1, 2, ... clicks, until it is good or the user gives up.
        points: The clicks.
        good: Dice that was wanted.
    """

    dice: tuple[float, ...]
    points: tuple[Point, ...]
    good: float = GOOD

    @property
    def clicks(self) -> int | None:
        """Number of clicks until the mask was good; None if it never was."""
        return len(self.dice) - 1 if self.dice[-1] >= self.good else None


def next_click(truth: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> Point | None:
    """Return the click in the middle of the largest error of a mask, both ``(H, W)``; None where nothing is wrong."""
    from scipy.ndimage import distance_transform_edt, label

    best: tuple[int, npt.NDArray[np.bool_], bool] | None = None
    for inside in (True, False):
        wrong = (truth > 0) & (mask == 0) if inside else (truth == 0) & (mask > 0)
        pieces, count = label(wrong)
        if not count:
            continue
        sizes = np.bincount(pieces.ravel())[1:]
        largest = int(sizes.argmax())
        if best is None or sizes[largest] > best[0]:
            best = int(sizes[largest]), pieces == largest + 1, inside
    if best is None:
        return None
    # The image's edge is an edge of the piece, too.
    deep = distance_transform_edt(np.pad(best[1], 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(deep.argmax()), deep.shape)
    return Point(int(row), int(column), best[2])


def corrected_by_clicks(
    encoder: SliceEncoder,
    encoded: EncodedSlices,
    truth: npt.NDArray[np.uint8],
    prediction: SlicePrediction | None = None,
    prompt: Prompt | None = None,
    number: int = 0,
    good: float = GOOD,
    most: int = MOST_CLICKS,
) -> Course:
    """Correct one object of a slice until it is good.

    Args:
        encoder: The model.
        encoded: The embedded slice.
        truth: The object, 0 or 1, ``(H, W)``.
        prediction: The prediction to start from; None for an empty slice.
        prompt: The generator's prompt for the slice and all objects; None for an empty start.
        number: Number of the object among those of the prediction.
        good: Dice that is wanted.
        most: Number of clicks after which the user gives up.
    """
    start = nothing_yet(0, number + 1, (truth.shape[0], truth.shape[1])) if prediction is None else prediction
    said, now, known = HandPrompt(), start, {number: list[HandAnswer]()}
    scores = [dice(truth, _mask(now, number))]
    while scores[-1] < good and len(said.points) < most:
        click = next_click(truth, _mask(now, number))
        assert click is not None  # a mask without an error is good
        said = said.and_point(click)
        now = corrected(encoder, encoded, {number: said}, start, prompt, known)
        scores.append(dice(truth, _mask(now, number)))
    return Course(tuple(scores), said.points, good)


def _mask(prediction: SlicePrediction, number: int) -> npt.NDArray[np.uint8]:
    return (prediction.probability[number] * prediction.presence[number] > THRESHOLD).astype(np.uint8)
