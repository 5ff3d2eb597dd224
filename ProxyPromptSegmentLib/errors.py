"""Exceptions: each one says what came, what is allowed and what to do; each has an exit code for scripts."""

from __future__ import annotations

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130


class ProxyPromptError(Exception):
    """Base of every error that a user can cause and mend.

    Attributes:
        exit_code: What the command line returns when this error ends it.
    """

    exit_code = EXIT_INTERNAL


class UsageError(ProxyPromptError):
    """Options that contradict each other or have a value that is not allowed."""

    exit_code = 2


class InputError(ProxyPromptError):
    """A file that is missing, is no image, has four dimensions, NaN or constant intensity."""

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
