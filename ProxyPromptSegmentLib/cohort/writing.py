"""Small files of a cohort's folder that several processes write: complete or not there, and once where that matters."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.output_files import safe_output


def write_text(path: Path, text: str, replace: bool = True) -> None:
    """Write a text in UTF-8.

    Args:
        path: The file.
        text: The text.
        replace: Whether an earlier file is replaced.

    Raises:
        OutputError: If it cannot be written, or must not be replaced.
    """
    with safe_output(path, replace) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON in place of an earlier one; see `write_text`."""
    write_text(path, as_json(content))


def publish_json(path: Path, content: dict[str, Any]) -> bool:
    """Write JSON unless the file exists; of several processes, exactly one succeeds.

    Returns:
        Whether this call wrote it.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        write_text(path, as_json(content), replace=False)
    except OutputError:
        if path.exists():
            return False
        raise
    return True


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if it does not exist, or is no such object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def as_json(content: dict[str, Any]) -> str:
    r"""Return JSON in ASCII: names that are not UTF-8 come back as they were, from ``\\udc..``."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


@contextmanager
def readable_folder(folder: Path) -> Iterator[None]:
    """Turn errors about a folder into words.

    Raises:
        OutputError: If the block raises OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        how = "free some space there" if full else "change its permissions"
        raise OutputError(
            f"the folder {folder} cannot be used: {error.strerror or error}; choose another folder, or {how}."
        ) from None
