"""Result files: refused before the work if they cannot be written, and never left half-written."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.paths import stem_of, suffix_of


def check_output_path(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuses a result file that could never be written; to be called before long work.

    Raises:
        OutputError: If the suffix is not known, or the folder is missing or not writable.
    """
    if suffix_of(path) not in suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"{path.name} has no suffix of a result that can be written; allowed: {', '.join(suffixes)}.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file in it.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist; make it or choose another for {path.name}.")
    if not os.access(path.parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OutputError(f"{path} may not be written by this user; change the permissions or choose another folder.")


@contextmanager
def safe_output(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside ``path``; moves it into place when the block ends well, or removes it.

    The temporary name ends with the same suffix, by which writers choose the format.

    Raises:
        OutputError: If the block or the move raises OSError; an earlier file at ``path`` is then untouched.
    """
    partial = path.with_name(f".{stem_of(path)[:60]}.partial-{uuid.uuid4().hex[:8]}{suffix_of(path)}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(_writing_failed(path, error)) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _writing_failed(path: Path, error: OSError) -> str:
    """A sentence for a failed write, with the free space where it may be the cause."""
    reason = error.strerror or str(error)
    free = ""
    with suppress(OSError):
        left = shutil.disk_usage(path.parent).free
        free = f" {left / 2**20:.0f} MiB are free there." if left < 2**30 else ""
    return (
        f"{path} could not be written: {reason}.{free} Nothing half-written was left; free space or choose "
        "another folder."
    )
