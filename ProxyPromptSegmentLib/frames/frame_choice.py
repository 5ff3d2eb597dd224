"""Frame ranges requested before the number of frames is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.slice_choice import SliceChoice
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.wording import consecutive_ranges


@dataclass(frozen=True)
class FrameChoice:
    """Requested ranges of frames.

    Attributes:
        ranges: First and last frame of each range, both included, counted from 0; a last of None is an open end.
    """

    ranges: tuple[tuple[int, int | None], ...] = ((0, None),)

    @classmethod
    def parse(cls, text: str | None, option: str) -> FrameChoice:
        """Parse a choice of frames, see `SliceChoice.parse`; None or empty means all.

        Raises:
            UsageError: If it is not a range of frames.
        """
        choice = SliceChoice.parse(text, option)
        return cls() if choice is None else cls(tuple((first or 0, last) for first, last in choice.ranges))

    @classmethod
    def of(cls, numbers: Iterable[int]) -> FrameChoice:
        """Return the choice of exactly these frames.

        Raises:
            UsageError: If there are none, or one is negative.
        """
        wanted = sorted({int(number) for number in numbers})
        if not wanted or wanted[0] < 0:
            found = f"frame {wanted[0]} was requested" if wanted else "no frame was requested"
            raise UsageError(f"{found}; give indices counted from 0, or leave them out for all frames")
        return cls(tuple(consecutive_ranges(wanted)))

    def __contains__(self, index: int) -> bool:
        """Return whether a frame is among those requested."""
        return any(first <= index and (last is None or index <= last) for first, last in self.ranges)

    @property
    def last(self) -> int | None:
        """The last requested frame; None if the end is open."""
        ends = [last for _, last in self.ranges if last is not None]
        return max(ends) if len(ends) == len(self.ranges) else None

    def total(self, count: int | None) -> int | None:
        """Return the number of requested frames among ``count``; None if it is not known."""
        end = self.last if count is None else count - 1
        return None if end is None else sum(index in self for index in range(end + 1))

    def check(self, count: int, name: str) -> None:
        """Reject frames beyond the end.

        Raises:
            UsageError: Naming the first of them.
        """
        for first, last in self.ranges:
            beyond = first if first >= count else last if last is not None and last >= count else None
            if beyond is not None:
                raise UsageError(
                    f"{name} has no frame {beyond}; its frames are 0 to {count - 1} (counted from 0)",
                    Remedy(kind=RemedyKind.CHOOSE_FRAMES),
                )
