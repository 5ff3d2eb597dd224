"""Work of the main thread in pieces of a few milliseconds, between which the window lives."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

import slicer

T = TypeVar("T")

RENDERING_SECONDS = 1 / 60
"""The views put off a request that follows another one sooner than this: they would render together with a piece."""

Pieces = Generator[None, None, T]
"""Yields after every piece of work; returns the outcome."""

DrawnPieces = Generator[bool | None, None, T]
"""Pieces as well; yields True where the views are to render before the next one."""

PIECE_BYTES = 4 << 20
"""Written into new memory in about 10 ms, most of which goes into its pages."""


def at_once(work: Pieces[T] | DrawnPieces[T]) -> T:
    """Do all pieces and return the outcome."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            outcome: T = end.value
            return outcome


def slices_at_once(slice_bytes: int) -> int:
    """Return how many slices make a piece."""
    return max(1, PIECE_BYTES // max(1, slice_bytes))


@contextmanager
def rendered_once() -> Iterator[None]:
    """Let the views wait with rendering until the end of the block.

    Otherwise a request to render that follows another one after more than a sixtieth of a second is met at once, in
    the middle of the block: twice in each of three views, that is 60 ms with 300 slices of 512 x 512.
    """
    slicer.app.pauseRender()
    try:
        yield
    finally:
        slicer.app.resumeRender()


class WaitingWork:
    """Pieces of work that wait for the main thread."""

    def __init__(self) -> None:
        """Have nothing to do."""
        self._promised: dict[DrawnPieces[None], bool] = {}
        self._drawn_at: float | None = None

    @property
    def waits(self) -> bool:
        """Whether there is any."""
        return bool(self._promised)

    def add(self, work: DrawnPieces[None], promised: bool = False) -> None:
        """Add work, which must not raise; errors are its own to show.

        Args:
            work: The work.
            promised: Whether `close` does what is left of it at once, because something of the user's would be lost.
        """
        self._promised[work] = promised

    def do_some(self, deadline: float) -> bool:
        """Do pieces until ``deadline`` (`time.perf_counter`), at least one of each; return whether some are left.

        After a piece for which the views render, they have the next turns for themselves.
        """
        if not self._promised:
            return False
        if self._drawn_at is not None:
            if time.perf_counter() >= self._drawn_at + RENDERING_SECONDS:
                self._drawn_at = None  # the timers of the views are due in this turn, if they were not before
            return True
        drawn = False
        with rendered_once():
            for work in list(self._promised):
                for rendered in work:
                    drawn = drawn or bool(rendered)
                    if rendered or time.perf_counter() > deadline:
                        break
                else:
                    self._promised.pop(work, None)
        if drawn:
            self._drawn_at = time.perf_counter()
        return bool(self._promised)

    def close(self) -> None:
        """End all work where it is, but do what was promised to its end."""
        works, self._promised = self._promised, {}
        for work, promised in works.items():
            if promised:
                at_once(work)
            else:
                work.close()
