"""Which errors are one study's, and which would fail all others as well."""

from __future__ import annotations

import errno

from ProxyPromptSegmentLib.errors import CheckpointError, DeviceError, OutputError, ProxyPromptError, as_user_error
from ProxyPromptSegmentLib.remedies import RemedyKind

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def ends_all(error: BaseException) -> bool:
    """Return whether an error is not one study's: results cannot be written, or model or device cannot be used."""
    if isinstance(error, DeviceError):
        return error.remedy is None or error.remedy.kind is not RemedyKind.SAVE_MEMORY
    if isinstance(error, OSError):
        return error.errno in _OF_THE_DISK
    return isinstance(error, (OutputError, CheckpointError)) or type(as_user_error(error)) is ProxyPromptError
