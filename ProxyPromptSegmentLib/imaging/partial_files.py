"""Files and folders that are being written under a hidden name: how they are called, and which a killed run left."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from ProxyPromptSegmentLib.imaging.paths import shortened, stem_of, suffix_of

ANY_PARTIAL = f".*.partial-{'[0-9a-f]' * 8}*"
"""Pattern of the hidden paths of all outputs, see `partial_of`."""

_QUIET_SECONDS = 600.0
"""For so long nothing has been written to what a killed run left, and nobody holds its lock."""
_STALE_SECONDS = 24 * 3600.0
"""The same where a file system or operating system has no such locks."""


def partial_of(path: Path) -> Path:
    """Return a new hidden path next to an output, with its suffix."""
    return path.with_name(f"{_beginning(path)}{uuid.uuid4().hex[:8]}{suffix_of(path)}")


def partial_pattern(path: Path) -> str:
    """Return the pattern of such paths of an output, for `remove_abandoned`."""
    return f"{escape(_beginning(path))}{'[0-9a-f]' * 8}{escape(suffix_of(path))}"


def _beginning(path: Path) -> str:
    return f".{shortened(stem_of(path), 60)}.partial-"


@contextmanager
def alone_in(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder that exists; where there are no such locks, nothing is held.

    Raises:
        BlockingIOError: If another program holds it.
    """
    handle = _locked(path)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


@contextmanager
def held(path: Path, folder: bool = False) -> Iterator[None]:
    """Create a file or folder, and hold a lock on it as long as the block runs, which says that its writer lives.

    Raises:
        OSError: If it cannot be created.
    """
    if folder:
        path.mkdir()
    else:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    with alone_in(path):
        yield


def remove_abandoned(folder: Path, pattern: str, now: float | None = None) -> None:
    """Remove what runs that were killed left in a folder.

    Args:
        folder: The folder.
        pattern: Names of what is being written there.
        now: The time of the file server, in seconds; by default this machine's.
    """
    with suppress(OSError):
        for path in folder.glob(pattern):
            with suppress(OSError):
                if not _abandoned(path, time.time() if now is None else now):
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _abandoned(path: Path, now: float) -> bool:
    """Return whether nobody writes to a file or folder any more."""
    quiet = now - path.stat().st_mtime
    if quiet <= _QUIET_SECONDS:
        return False
    try:
        handle = _locked(path)
    except BlockingIOError:
        return False
    if handle is None:
        return quiet > _STALE_SECONDS
    os.close(handle)
    return True


def _locked(path: Path) -> int | None:
    """Return a handle that holds the lock of a file or folder, until it is closed; None where there are no such locks.

    Raises:
        BlockingIOError: If another program holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where a file that is open could not be moved into place
        return None
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return None
    return handle
