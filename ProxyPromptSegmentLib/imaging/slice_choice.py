"""Slice ranges requested as text such as ``5:20``; open ends are resolved with the stack's length."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ProxyPromptSegmentLib.errors import UsageError

MOST_SLICES = 100_000
_WORDS_FOR_ALL = ("", "auto", "all")


@dataclass(frozen=True)
class SliceChoice:
    """Requested ranges of slices.

    Attributes:
        ranges: First and last slice of each range, both included, counted from 0; None is an open end.
    """

    ranges: tuple[tuple[int | None, int | None], ...]

    @classmethod
    def parse(cls, text: str | None, option: str) -> SliceChoice | None:
        """Parse ``3``, ``3:8``, ``3:``, ``:8`` or several of these separated by commas.

        Args:
            text: The text entered by the user.
            option: The option's name, for the error message.

        Returns:
            The choice; None for ``auto``, ``all`` or no text: the program chooses.

        Raises:
            UsageError: If the text has another form.
        """
        if text is None or text.strip().lower() in _WORDS_FOR_ALL:
            return None
        ranges: list[tuple[int | None, int | None]] = []
        for part in text.split(","):
            found = re.fullmatch(r"\s*([0-9]*)\s*(:?)\s*([0-9]*)\s*", part)
            if not found or not (found[1] or found[2]) or (found[3] and not found[2]):
                raise UsageError(
                    f"{option} is '{text}'; write slices as 12, as 5:20 (from 5 to 20, both included, counted from 0), "
                    "or several joined by commas."
                )
            if max(len(found[1]), len(found[3])) > len(str(MOST_SLICES)):
                raise UsageError(
                    f"{option} has a number of more than {len(str(MOST_SLICES))} digits; no volume has so many slices."
                )
            first = int(found[1]) if found[1] else None
            last = int(found[3]) if found[3] else (None if found[2] else first)
            if max(first or 0, last or 0) > MOST_SLICES:
                raise UsageError(f"{option} is '{text}'; no volume has so many slices.")
            if first is not None and last is not None and first > last:
                raise UsageError(f"{option} is '{text}'; the first slice of a range must not be above its last.")
            ranges.append((first, last))
        return cls(tuple(ranges))

    def numbers(self, count: int) -> list[int]:
        """Return the slice indices on a stack of ``count``; indices beyond it are kept for error messages."""
        numbers: list[int] = []
        for first, last in self.ranges:
            numbers += range(first or 0, (count - 1 if last is None else last) + 1)
        return list(dict.fromkeys(numbers))


Slices = SliceChoice | Sequence[int] | None
"""Slice indices, a choice, or None if the program chooses."""


def slice_numbers(slices: SliceChoice | Sequence[int] | None, count: int) -> list[int] | None:
    """Return the indices that ``slices`` selects on a stack of ``count``; None stays None."""
    if slices is None:
        return None
    numbers = slices.numbers(count) if isinstance(slices, SliceChoice) else [int(n) for n in slices]
    return list(dict.fromkeys(numbers))
