"""Small files of a cohort's folder that several processes write: complete or not there, and once where that matters."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.output_files import safe_output

PARTIAL = ".partial-"
"""What the names of files contain that are not complete yet."""


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, in place of an earlier one.

    Raises:
        OutputError: If it cannot be written.
    """
    with safe_output(path) as partial:
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
    partial = path.with_name(f".{path.stem}{PARTIAL}{uuid.uuid4().hex[:8]}")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(as_json(content))
            file.flush()
            os.fsync(file.fileno())
        return _linked(partial, path)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}.") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _linked(partial: Path, path: Path) -> bool:
    """Give a complete file its name unless another has it."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if path.exists():
            return False
        os.replace(partial, path)
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
        raise OutputError(
            f"the folder {folder} cannot be used: {error.strerror or error}; choose another folder, or change its "
            "permissions."
        ) from None
