"""The choice of tiles, as typed on a command line, given by a script or stored in a scene."""

from __future__ import annotations

import pytest

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("auto", TileChoice()),
        (" OFF ", TileChoice("off")),
        ("on", TileChoice("on")),
        ("3", TileChoice("on", 3.0)),
        (2.5, TileChoice("on", 2.5)),
        (TileChoice("on", 4.0), TileChoice("on", 4.0)),
    ],
)
def test_a_text_or_a_number_is_a_choice_and_the_choice_is_that_text(value, expected):
    choice = TileChoice.of(value)
    assert choice == expected
    assert TileChoice.of(str(choice)) == choice


@pytest.mark.parametrize("value", ["", "yes", "1", "0", "-2", "17", "nan", "inf", 1, 0.5, 100])
def test_other_texts_and_numbers_are_refused_with_what_is_allowed(value):
    with pytest.raises(UsageError, match="allowed are auto, off, on, or a magnification above 1 and at most 16"):
        TileChoice.of(value)


def test_a_magnification_belongs_to_tiles_that_are_on():
    with pytest.raises(UsageError):
        TileChoice("auto", 2.0)
