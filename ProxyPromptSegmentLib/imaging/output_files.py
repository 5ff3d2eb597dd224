"""Output files: checked before the work starts, written to a temporary file and moved into place."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.partial_files import held, partial_of, partial_pattern, remove_abandoned
from ProxyPromptSegmentLib.imaging.paths import is_utf8, suffix_of

_LONGEST_NAME = 255  # bytes, of nearly every file system


def check_output_path(path: Path, suffixes: tuple[str, ...]) -> None:
    """Reject an output file that cannot be written; call this before long work.

    Raises:
        OutputError: If the suffix is unknown, or the folder is missing or not writable.
    """
    files = [suffix for suffix in suffixes if suffix]
    if os.path.isdir(path):  # unlike Path.is_dir, it answers for names that are too long, too
        if "" in suffixes:
            raise OutputError(f"the folder {path} already exists; give the name of a new one, or of a file in it.")
        raise OutputError(f"{path} is a folder; give the name of a file in it, which ends in {' or '.join(files)}.")
    if suffix_of(path) not in suffixes and path.suffix.lower() not in suffixes:
        folder = ", or none for a new folder of pictures" if "" in suffixes else ""
        raise OutputError(f"{path.name} has no supported suffix for a result; allowed: {', '.join(files)}{folder}.")
    if os.path.isdir(path.parent) and not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"the folder {path.parent} may not be written by this user; change its permissions or choose another."
        )
    if not is_utf8(path.parent):
        raise OutputError(f"the folder {path.parent} has a name that is not UTF-8; rename it, or choose another one.")
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise OutputError(f"{path.name[:40]}... has a name of more than {_LONGEST_NAME} bytes; choose a shorter one.")
    if path.is_symlink() and not path.exists() and _runs_in_a_circle(path):
        raise OutputError(f"{path} is a link that leads to itself; remove it, or choose another name.")
    if not os.path.isdir(path.parent):
        raise OutputError(f"The folder {path.parent} does not exist; create it or choose another one for {path.name}.")
    if not os.access(path.parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OutputError(f"{path} may not be written by this user; change the permissions or choose another folder.")
    probe = partial_of(path)
    try:  # permissions do not say everything: quotas, disks of a server that are read-only for this user
        with held(probe):
            probe.unlink()
    except OSError as error:
        raise OutputError(
            f"the folder {path.parent} cannot be written ({error.strerror or error}); choose another one."
        ) from None


def _runs_in_a_circle(path: Path) -> bool:
    """Return whether a link leads back to itself."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    except RuntimeError:
        return True
    return False


@contextmanager
def safe_output(path: Path, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; move it into place if the block succeeds, otherwise remove it.

    The temporary file has the same suffix, because writers choose the format by it. What a run that was killed left of
    the same output is removed.

    Args:
        path: The file.
        replace: Whether a file of this name may be replaced. If not, of several programs only one gets the name.

    Raises:
        OutputError: If the block or the move raises OSError, or the file exists; what was there is then unchanged.
    """
    partial = partial_of(path)
    try:
        with held(partial):
            remove_abandoned(path.parent, partial_pattern(path))
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        if replace:
            os.replace(partial, path)
        else:
            _place(partial, path)
    except FileExistsError:
        raise OutputError(f"{path} already exists and is not overwritten; choose another name.") from None
    except OSError as error:
        raise OutputError(_writing_failed(path, error)) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _place(partial: Path, path: Path) -> None:
    """Give a file its name unless another file has it.

    Raises:
        FileExistsError: If one has.
    """
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except (OSError, AttributeError):  # file systems without links: the name is taken by an empty file first
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(partial, path)


def _writing_failed(path: Path, error: OSError) -> str:
    """Describe a failed write, with the free space if that may be the cause."""
    reason = error.strerror or str(error)
    free = ""
    with suppress(OSError):
        left = shutil.disk_usage(path.parent).free
        free = f" {left / 2**20:.0f} MiB are free there." if left < 2**30 else ""
    return (
        f"{path} could not be written: {reason}.{free} No partial file was left; free up space or choose another "
        "folder."
    )
