"""Numbers, durations, sizes and lists for sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def consecutive_ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each row of neighbours: ``[(3, 5), (9, 9)]`` of 3, 4, 5, 9."""
    found: list[tuple[int, int]] = []
    for n in sorted(set(numbers)):
        if found and n == found[-1][1] + 1:
            found[-1] = (found[-1][0], n)
        else:
            found.append((n, n))
    return found


def ranges(numbers: Iterable[int]) -> str:
    """Numbers for a sentence: ``3-5, 9`` of 3, 4, 5, 9."""
    return ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in consecutive_ranges(numbers))


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size_text(count: int) -> str:
    """Bytes as people say them, in powers of ten as disks and browsers do."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def on_slices(numbers: Sequence[int]) -> str:
    """Slice numbers for a sentence: ``slice 3`` or ``slices 3-5, 9``."""
    parts = ranges(numbers).split(", ")
    shown = ", ".join(parts[:6]) + (" and more" if len(parts) > 6 else "")
    return f"slice{'s' if len(numbers) > 1 else ''} {shown}"
