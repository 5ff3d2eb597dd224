"""Wording of names, numbers, durations and sizes in messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def consecutive_ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return first and last of each run of consecutive numbers: ``[(3, 5), (9, 9)]`` for 3, 4, 5, 9."""
    found: list[tuple[int, int]] = []
    for n in sorted(set(numbers)):
        if found and n == found[-1][1] + 1:
            found[-1] = (found[-1][0], n)
        else:
            found.append((n, n))
    return found


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers as text, with runs shortened: ``3-5, 9`` for 3, 4, 5, 9."""
    return ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in consecutive_ranges(numbers))


def duration(seconds: float) -> str:
    """Return a duration in a readable unit, e.g. ``12 s`` or ``3 min``."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size_text(count: int) -> str:
    """Return a number of bytes in a readable unit, in powers of ten as disks and browsers do."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def quoted(names: Sequence[str]) -> str:
    """Return quoted names separated by commas."""
    return ", ".join(f"'{name}'" for name in names)
