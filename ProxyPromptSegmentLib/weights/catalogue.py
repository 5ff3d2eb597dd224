"""Registry files: the program's own, read strictly, and the user's, which can only add entries."""

from __future__ import annotations

import functools
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.typed_json import read_object
from ProxyPromptSegmentLib.weights.entry import ModelEntry

logger = logging.getLogger(__name__)

# 1: only models next to the file. 2: kinds, addresses, what an entry fits and needs.
FORMAT = 2


@dataclass(frozen=True)
class _Registry:
    """A registry file."""

    format: int
    models: tuple[Any, ...]


def read_entries(file: Path, origin: str = "shipped") -> list[ModelEntry]:
    """Read the entries of a registry file ``{"format": 2, "models": [entry, ...]}``.

    Raises:
        CheckpointError: If the file cannot be read or is damaged, or an entry is not allowed.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # as editors on Windows may save it
    except (OSError, ValueError) as error:
        what = f"is damaged: {error}" if isinstance(error, ValueError) else f"cannot be read: {error}"
        raise _unusable(file, origin, what) from error
    return list(_entries_in(text, file, origin))


def _unusable(file: Path, origin: str, what: str) -> CheckpointError:
    if origin == "shipped":
        return CheckpointError(f"the list of models {file} {what}", Remedy(kind=RemedyKind.REINSTALL_PROGRAM))
    return CheckpointError(f"the list of models {file} {what}; correct the file or move it away.")


@functools.lru_cache(maxsize=4)
def _entries_in(text: str, file: Path, origin: str) -> tuple[ModelEntry, ...]:
    """Return the entries in the text of a registry file; checking them takes a third of the time of a click by hand.

    Raises:
        CheckpointError: If it is damaged, or an entry is not allowed.
    """
    try:
        content = json.loads(text)
        read = read_object(_Registry, content, known=content if isinstance(content, dict) else None)
    except (ValueError, RecursionError) as error:
        raise _unusable(file, origin, f"is damaged: {error}") from error
    if read.format > FORMAT:
        raise CheckpointError(f"the list of models {file} has the format {read.format}; update ProxyPromptSegment.")
    listed = read.models
    if read.format < 2:
        listed = tuple({"embedded": True, **values} if isinstance(values, dict) else values for values in listed)
    try:
        entries = tuple(ModelEntry.from_dict(values, origin) for values in listed)
    except CheckpointError as error:
        raise _unusable(file, origin, f"is refused: {error}") from error
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _unusable(file, origin, f"has two entries named '{twice[0]}'")
    return entries


def with_users_own(shipped: list[ModelEntry], file: Path) -> list[ModelEntry]:
    """Return the shipped entries together with those of the user's file.

    Errors in the user's file are logged and its entries ignored, because they must not affect the shipped models. An
    entry with the name of a shipped one is ignored as well, so that it cannot silently replace it.
    """
    try:
        if not file.is_file():
            return shipped
    except OSError as error:  # a home folder that may not be entered, as after sudo
        logger.warning("the list of your models %s cannot be read (%s); it is ignored", file, error.strerror or error)
        return shipped
    try:
        own = read_entries(file, str(file))
    except CheckpointError as error:
        logger.warning("%s Its entries are ignored", error)
        return shipped
    names = {entry.name for entry in shipped}
    for entry in own:
        if entry.name in names:
            logger.warning(
                "%s has an entry '%s', but this name belongs to a model of the program; yours is ignored: rename it",
                file,
                entry.name,
            )
        elif entry.embedded:
            logger.warning(
                "%s marks '%s' as embedded, which only the program's models are: it is ignored", file, entry.name
            )
    return [*shipped, *(entry for entry in own if entry.name not in names and not entry.embedded)]
