"""Reads registry files: the one that comes with the program, strictly, and the user's own, which can only add."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.typed_json import read_object
from ProxyPromptSegmentLib.weights.entry import ModelEntry

logger = logging.getLogger(__name__)

# 1: only models that lie beside the list. 2: kinds, addresses, what an entry fits and needs.
FORMAT = 2


@dataclass(frozen=True)
class _Registry:
    """A registry file."""

    format: int
    models: tuple[Any, ...]


def read_entries(file: Path, origin: str = "shipped") -> list[ModelEntry]:
    """The entries of a registry file ``{"format": 2, "models": [entry, ...]}``.

    Raises:
        CheckpointError: If the file cannot be read or is damaged, or an entry is not allowed.
    """
    remedy = "install the program again" if origin == "shipped" else "correct the file or move it away"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        read = read_object(_Registry, content, known=content if isinstance(content, dict) else None)
    except OSError as error:
        raise CheckpointError(f"the list of models {file} cannot be read: {error}; {remedy}.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the list of models {file} is damaged: {error}; {remedy}.") from error
    if read.format > FORMAT:
        raise CheckpointError(f"the list of models {file} has the format {read.format}; update ProxyPromptSegment.")
    listed = read.models
    if read.format < 2:
        listed = tuple({"embedded": True, **values} if isinstance(values, dict) else values for values in listed)
    try:
        entries = [ModelEntry.from_dict(values, origin) for values in listed]
    except CheckpointError as error:
        raise CheckpointError(f"the list of models {file} is refused: {error}; {remedy}.") from error
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CheckpointError(f"the list of models {file} has two entries named '{twice[0]}'; {remedy}.")
    return entries


def with_users_own(shipped: list[ModelEntry], file: Path) -> list[ModelEntry]:
    """The shipped entries and those of the user's file.

    What is wrong in the user's file is warned of and left out: a mistake in it must not stop the models that come
    with the program. An entry with the name of a shipped one is left out as well, so that nothing replaces it silently.
    """
    if not file.is_file():
        return shipped
    try:
        own = read_entries(file, str(file))
    except CheckpointError as error:
        logger.warning("%s Its entries are left out", error)
        return shipped
    names = {entry.name for entry in shipped}
    for entry in own:
        if entry.name in names:
            logger.warning(
                "%s has an entry '%s', but this name belongs to a model of the program; yours is left out: rename it",
                file,
                entry.name,
            )
        elif entry.embedded:
            logger.warning("%s calls '%s' embedded, as only the program's models are: it is left out", file, entry.name)
    return [*shipped, *(entry for entry in own if entry.name not in names and not entry.embedded)]
