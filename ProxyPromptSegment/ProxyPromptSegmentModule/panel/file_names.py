"""The file that a dialog has chosen for writing, which never replaces one that the dialog did not ask about."""

from __future__ import annotations

from pathlib import Path

import slicer.util

from ProxyPromptSegmentModule.translation import _


def file_to_write(path: str, suffix: str) -> Path | None:
    """Return the path with its suffix; None if nothing was chosen, or what is there is not to be replaced.

    Args:
        path: What the dialog returned, for which it has asked whether a file of this very name is replaced.
        suffix: The suffix with its point, added if it is missing.
    """
    if not path or path.lower().endswith(suffix):
        return Path(path) if path else None
    file = Path(path + suffix)
    question = _("{file} is there already. Replace it?").format(file=file)
    if file.exists() and not slicer.util.confirmOkCancelDisplay(question, _("Replace a file")):
        return None
    return file
