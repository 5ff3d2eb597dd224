"""A click corrects the mask where it lies: the pieces at the click are taken from the decoder's new mask, others stay.

A decoder draws the whole object anew after each click, and undoes elsewhere what earlier clicks have mended; one that
was trained on few clicks may not follow a further one at all. With this rule a click changes the pieces of a mask that
it touches, and the pixel that was clicked on always becomes what the user says.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ProxyPromptSegmentLib.inference.by_hand.prompts import Point
from ProxyPromptSegmentLib.networks.letterbox import Letterbox, points_to_square

REACH = 0.03
"""Distance from the click at which a changed piece still belongs to it, as a share of the square's side."""
SAID = 2.0
"""Logit of pixels around a click that the decoder does not follow."""


def changed_at(before: torch.Tensor, after: torch.Tensor, point: Point, box: Letterbox) -> torch.Tensor:
    """Return a mask after a click.

    Args:
        before: Logits before the click, ``(s, s)`` over the whole square.
        after: What the decoder draws with the click, ``(s, s)``.
        point: The click, on the slice.
        box: Position of the slice in the square.

    Returns:
        ``before``, with those pieces of ``after`` at the click that change it as the click says; ``(s, s)``.
    """
    from scipy.ndimage import label

    side = before.shape[-1]
    row, column = place_of(point, box, side)
    old, new = ((logits > 0).cpu().numpy() for logits in (before, after))
    pieces, _ = label((new != old) & (new == point.inside), np.ones((3, 3)))
    near = _disc(side, row, column, REACH * side)
    touched = np.unique(pieces[near])
    taken: npt.NDArray[np.bool_] = np.isin(pieces, touched[touched > 0])
    chosen = torch.from_numpy(taken).to(before.device)
    mixed = torch.where(chosen, after, before)
    if bool(mixed[row, column] > 0) != point.inside:
        around = torch.from_numpy(near & ((mixed > 0).cpu().numpy() != point.inside)).to(before.device)
        mixed = torch.where(around, torch.full_like(mixed, SAID if point.inside else -SAID), mixed)
    return mixed


def place_of(point: Point, box: Letterbox, side: int) -> tuple[int, int]:
    """Return row and column of the pixel, of ``side`` times ``side`` that fill the square, in which a click lies."""
    x, y = points_to_square(np.array([(point.column, point.row)]), box)[0]
    column, row = (min(side - 1, max(0, int(np.floor((value + 0.5) * side / box.size)))) for value in (x, y))
    return row, column


def _disc(side: int, row: int, column: int, radius: float) -> npt.NDArray[np.bool_]:
    rows, columns = np.ogrid[:side, :side]
    inside: npt.NDArray[np.bool_] = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return inside
