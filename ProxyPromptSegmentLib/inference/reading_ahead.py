"""Reads the next slices on a thread of its own while a graphics card computes: windowing, resizing, pinned memory.

One batch is read ahead of the one that is computed and no more. On a CPU nothing is gained: reading takes the time of
the same cores, and for the compact models a hundredth of it. In front of a card that embeds a slice of 1024 pixels in
25 ms, reading it takes 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MOST = 2
"""Batches that are held: the one that is computed next, and one ahead of it."""


class ReadingAhead:
    """Batches that are read, or were, before they are asked for. Used by one thread."""

    def __init__(self) -> None:
        """Have no thread; it starts with the first batch."""
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: dict[Hashable, Future[torch.Tensor]] = {}

    def begin(self, which: Hashable, read: Callable[[], torch.Tensor]) -> None:
        """Begin to read a batch, unless enough are waiting to be taken.

        Args:
            which: What tells it from others.
            read: Returns its pixels as the encoder takes them; called on the thread.
        """
        if which in self._waiting or len(self._waiting) >= MOST:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "ProxyPromptReader")
        self._waiting[which] = self._pool.submit(read)

    def take(self, which: Hashable) -> torch.Tensor | None:
        """Return the pixels of a batch, when they are read; None if it was not begun.

        Raises:
            Exception: Whatever reading raised; the batch then counts as not begun.
        """
        batch = self._waiting.pop(which, None)
        return None if batch is None else batch.result()

    def close(self) -> None:
        """Forget all batches and end the thread."""
        for batch in self._waiting.values():
            batch.cancel()
        self._waiting.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
