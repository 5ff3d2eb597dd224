"""Slices as text: numbers, runs with both ends included, and nothing that can be misread."""

from __future__ import annotations

import pytest

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.slice_choice import SliceChoice, slice_numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3", [3]),
        ("2:4", [2, 3, 4]),
        ("8:", [8, 9]),
        (":1", [0, 1]),
        (" 1 : 2 , 0", [1, 2, 0]),
        (":", list(range(10))),
    ],
)
def test_slices_are_read_with_both_ends_included(text, numbers) -> None:
    assert slice_numbers(SliceChoice.parse(text, "--slices"), 10) == numbers


@pytest.mark.parametrize("text", ["a", "1-3", "3:2", "1,,2", "-1", "1:2:3", "1 2", "999999999"])
def test_slices_that_cannot_be_read_are_refused(text) -> None:
    with pytest.raises(UsageError, match="--slices"):
        SliceChoice.parse(text, "--slices")


@pytest.mark.parametrize("text", [None, "", "auto", "ALL"])
def test_no_choice_of_slices_is_left_to_the_program(text) -> None:
    assert SliceChoice.parse(text, "--slices") is None
