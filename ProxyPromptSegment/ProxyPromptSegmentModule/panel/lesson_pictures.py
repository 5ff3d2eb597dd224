"""Pictures of a lesson: its curve, and the worst case beside its annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentModule.supports.thumbnails import thumbnail_of

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.training.adapting.result import CasePicture

U8 = npt.NDArray[np.uint8]
REFERENCE, FOUND = (0.2, 0.8, 0.35), (1.0, 0.6, 0.1)
"""Colours of the annotation and of the model: red, green, blue in 0..1."""
_GROUND, _EDGE, _EARLIER, _LATEST = 252, 200, (170, 170, 170), (20, 90, 180)
_SMOOTH = 0.3  # weight of a step in the line


def curve(losses: Mapping[str, Sequence[float]], steps: int, width: int = 300, height: int = 80) -> U8:
    """Draw the loss of each training over its steps, the latest one last and in colour.

    Args:
        losses: Loss after each step, by training.
        steps: Steps of a training.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.

    Returns:
        uint8 ``(height, width, 3)``.
    """
    picture = np.full((height, width, 3), _GROUND, np.uint8)
    picture[[0, -1]], picture[:, [0, -1]] = _EDGE, _EDGE
    lines = [_smooth(values) for values in losses.values() if len(values)]
    if not lines:
        return picture
    low, high = min(float(line.min()) for line in lines), max(float(line.max()) for line in lines)
    for number, line in enumerate(lines):
        _draw(picture, line, max(steps, len(line)), (low, high), _LATEST if number == len(lines) - 1 else _EARLIER)
    return picture


def _smooth(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return a running mean of the values."""
    found, mean = [], float(values[0])
    for value in values:
        mean += _SMOOTH * (float(value) - mean)
        found.append(mean)
    return np.array(found)


def _draw(
    picture: U8,
    line: npt.NDArray[np.float64],
    steps: int,
    ends: tuple[float, float],
    color: tuple[int, int, int],
) -> None:
    """Draw a line two pixels wide; its first step is at the left edge, step ``steps`` at the right one."""
    height, width = picture.shape[:2]
    left, right, top, bottom = 4, width - 5, 4, height - 6
    places = left + (right - left) * np.arange(len(line)) / max(1, steps - 1)
    columns = np.arange(left, int(places[-1]) + 1)
    share = (np.interp(columns, places, line) - ends[0]) / max(ends[1] - ends[0], 1e-9)
    rows = np.rint(bottom - (bottom - top) * share).astype(int)
    before = np.concatenate([rows[:1], rows[:-1]])
    for column, one, other in zip(columns, rows, before, strict=True):
        picture[min(one, other) : max(one, other) + 2, column] = color


def worst_case(shown: CasePicture, side: int = 150) -> U8:
    """Draw the annotation, and beside it what the model of the fold found on the same slice.

    Args:
        shown: The slice.
        side: Side of each of the two pictures in pixels.

    Returns:
        uint8 ``(side, 2 * side + 4, 3)``.
    """
    around = np.any(shown.reference, axis=0) | np.any(shown.found, axis=0)
    pictures = [
        thumbnail_of(
            shown.image, masks, [color] * len(masks), shown.window, shown.spacing_mm, side, around.astype(np.uint8)
        )
        for masks, color in ((shown.reference, REFERENCE), (shown.found, FOUND))
    ]
    gap = np.full((side, 4, 3), _GROUND, np.uint8)
    return np.concatenate([pictures[0], gap, pictures[1]], axis=1)
