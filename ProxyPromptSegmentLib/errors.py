"""Exceptions: each one states what came and what is allowed, and may carry a remedy; each has an exit code for scripts.

The text of an error holds facts only. What to do about it, where that needs an option of the command line or a button
of the panel, is a `Remedy`, which each face puts into its own words.
"""

from __future__ import annotations

from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130


class ProxyPromptError(Exception):
    """Base of every error that a user can cause and mend.

    Attributes:
        exit_code: What the command line returns when this error ends it.
        remedy: What to do about it, where a face has to word that.
    """

    exit_code = EXIT_INTERNAL

    def __init__(self, message: str, remedy: Remedy | None = None) -> None:
        """Take the facts, as a sentence without the words of any face, and the remedy."""
        super().__init__(message)
        self.remedy = remedy


class UsageError(ProxyPromptError):
    """Options that contradict each other or have a value that is not allowed."""

    exit_code = 2


class InputError(ProxyPromptError):
    """A file that is missing, is not an image, has four dimensions, NaN or constant intensity."""

    exit_code = 3


class SupportError(ProxyPromptError):
    """A support that cannot prompt anything: empty, of another size, or without the named object."""

    exit_code = 4


class GeometryError(ProxyPromptError):
    """Two grids that should be the same lattice are not."""

    exit_code = 5


class OutputError(ProxyPromptError):
    """A result that could not be written; nothing half-written is left behind."""

    exit_code = 6


class CheckpointError(ProxyPromptError):
    """A checkpoint that is missing, has another hash or does not fit the model."""

    exit_code = 7


class DeviceError(ProxyPromptError):
    """A device that is not there or ran out of memory."""

    exit_code = 8


def as_user_error(error: BaseException) -> ProxyPromptError | None:
    """Translate what Python raises for causes outside of the program: memory, packages, files.

    Returns:
        The error itself if it is one of ours; None for a fault of the program.
    """
    if isinstance(error, ProxyPromptError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return DeviceError("memory ran out", Remedy(kind=RemedyKind.SAVE_MEMORY))
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("ProxyPromptSegment"):
        package = (error.name or str(error)).partition(".")[0]
        return ProxyPromptError(
            f"the Python package '{package}' is not installed",
            Remedy(kind=RemedyKind.INSTALL_PACKAGE, package=package),
        )
    if isinstance(error, OSError):
        return OutputError(f"a file could not be read or written: {error}; check the disk and its permissions.")
    return None
