"""Exceptions: each states what was found and what is allowed, and may carry a remedy; each class has an exit code.

The text of an error contains facts only. If the solution needs an option of the command line or a button of the panel,
it is a `Remedy`, which each user interface puts into its own words.
"""

from __future__ import annotations

import os

from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_NOTHING_FOUND = 9
"""The result was written, but every object is empty on every requested slice or frame; not an error."""

EXIT_SOME_FAILED = 10
"""Of many studies, some failed; they are listed with their reasons, and the others are done."""

EXIT_INTERRUPTED = 130


class ProxyPromptError(Exception):
    """Base class of all errors that a user can cause and fix.

    Attributes:
        exit_code: Exit code of the command line for this error.
        remedy: What to do about it, if the wording depends on the user interface.
    """

    exit_code = EXIT_INTERNAL

    def __init__(self, message: str, remedy: Remedy | None = None) -> None:
        """Store the facts, a sentence without the wording of any user interface, and the remedy."""
        super().__init__(message)
        self.remedy = remedy


class UsageError(ProxyPromptError):
    """Options that contradict each other or have a value that is not allowed."""

    exit_code = 2


class InputError(ProxyPromptError):
    """A file that is missing, is not an image, or has four dimensions, NaN or constant intensity."""

    exit_code = 3


class SupportError(ProxyPromptError):
    """An unusable support: empty mask, wrong size, or without the named object."""

    exit_code = 4


class GeometryError(ProxyPromptError):
    """Two grids that should share one lattice but do not."""

    exit_code = 5


class OutputError(ProxyPromptError):
    """A result that could not be written; no partial file is left."""

    exit_code = 6


class CheckpointError(ProxyPromptError):
    """A checkpoint that is missing, has a wrong hash or does not match the model."""

    exit_code = 7


class DeviceError(ProxyPromptError):
    """A device that is not available or ran out of memory."""

    exit_code = 8


class CancelledError(ProxyPromptError):
    """A training that was cancelled before it had a result, at the user's own request."""

    exit_code = EXIT_INTERRUPTED


def _is_unreadable(path: object) -> bool:
    """Return whether a file exists that may not be read; else writing it was refused, or nobody knows."""
    return isinstance(path, str | os.PathLike) and os.path.exists(path) and not os.access(path, os.R_OK)


def as_user_error(error: BaseException) -> ProxyPromptError | None:
    """Translate Python exceptions with external causes (memory, packages, files) into an error for the user.

    Returns:
        The error itself if it is one of ours; None for a bug.
    """
    if isinstance(error, ProxyPromptError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _says_no_memory(error):
        return DeviceError("memory ran out", Remedy(kind=RemedyKind.SAVE_MEMORY))
    if isinstance(error, ImportError) and not (error.name or "").startswith("ProxyPromptSegment"):
        package = (error.name or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and package:
            said = f"the Python package '{package}' is not installed"
        else:
            said = f"a Python package cannot be loaded ({error})"
        return ProxyPromptError(said, Remedy(kind=RemedyKind.INSTALL_REQUIREMENTS))
    if isinstance(error, PermissionError) and _is_unreadable(error.filename):
        return InputError(f"{error.filename} may not be read by this user; change its permissions.")
    if isinstance(error, OSError):
        return OutputError(f"a file could not be read or written: {error}; check the disk and its permissions.")
    return None


# What libraries in C say where memory ran out: the loader, the operating system, oneDNN, PyTorch's allocators.
_NO_MEMORY = (
    "failed to map segment",
    "cannot allocate memory",
    "can't allocate memory",
    "not enough memory",
    "could not create a primitive",
)
_NEARLY = 0.7
"""Share of the address space above which errors of libraries that name no cause come from its limit."""


def _says_no_memory(error: BaseException) -> bool:
    """Return whether an error of a library comes from a lack of memory, although it is no MemoryError."""
    if not isinstance(error, ImportError | OSError | RuntimeError | SystemError):
        return False
    return any(words in str(error).lower() for words in _NO_MEMORY) or (
        isinstance(error, SystemError) and _address_space_used() > _NEARLY
    )


def _address_space_used() -> float:
    """Return the share of this process's address space that is used; 0 if it has no limit, or none is known."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return 0.0
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return used / limit if limit > 0 else 0.0
