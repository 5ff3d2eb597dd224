"""Processor threads and chance of a training: set while it runs, and left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def computing_with(count: int) -> Iterator[None]:
    """Compute with so many threads, on which the last digits depend; leave number and chance as they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)
