"""Files that another program writes to while they are read: half of one and half of the other is no image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError


@contextmanager
def unchanged(files: Sequence[Path], name: str) -> Iterator[None]:
    """Compare size and time of files before and after the block reads them.

    Args:
        files: The files; folders among them do not count.
        name: What they are, for messages.

    Raises:
        InputError: If one was changed or removed meanwhile.
    """
    before = _state(files)
    yield
    if before != _state(files):
        raise changed(name)


def changed(name: str) -> InputError:
    """Return the error for files that another program writes to."""
    return InputError(
        f"{name} was changed while it was read; wait until it is completely written or copied, then start again."
    )


def _state(files: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Return size and time of each file; None of one that is gone or is none."""
    found: list[tuple[int, int] | None] = []
    for file in files:
        try:
            about = file.stat()
            found.append((about.st_size, about.st_mtime_ns) if file.is_file() else None)
        except OSError:  # what is read says it better
            found.append(None)
    return found
