"""Contours and colours that all pictures share."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.imaging.drawing import inner_border


def test_the_border_is_as_wide_as_asked_and_closed_at_the_edge_of_the_picture() -> None:
    inside = np.zeros((9, 9), bool)
    inside[:6, 2:9] = True
    thin, wide = inner_border(inside), inner_border(inside, 2)
    assert thin.sum() == 6 * 7 - 4 * 5 and wide.sum() == 6 * 7 - 2 * 3
    assert thin[0, 2:9].all() and thin[:6, 8].all() and not (wide & ~inside).any()
    assert not inner_border(np.zeros((3, 3), bool)).any() and inner_border(np.ones((1, 4), bool)).all()
