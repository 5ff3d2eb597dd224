"""Names of files to write: proposed ones, and the chosen one, which never replaces a file that nobody asked about."""

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


def safe_name(text: str) -> str:
    """Return a text as the name of a file, without characters that a system does not allow."""
    return "".join(letter if letter.isalnum() or letter in " ._-" else "_" for letter in text).strip(" .")
