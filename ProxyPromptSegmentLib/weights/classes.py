"""Which models on this machine know a class by name."""

from __future__ import annotations

import functools
import json
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.weights.entry import ModelEntry, ModelKind
from ProxyPromptSegmentLib.weights.registry import all_entries, location
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass, generator_kind, nearest_names, vocabulary_in

logger = logging.getLogger(__name__)

_MOST_HEADER = 16 << 20  # bytes; those of this project have tens of thousands


@dataclass(frozen=True)
class Knowing:
    """A model that knows classes.

    Attributes:
        model: Its name.
        classes: What it knows.
    """

    model: str
    classes: tuple[PromptClass, ...]

    def knows(self, names: Sequence[str]) -> bool:
        """Return whether it knows all of some classes."""
        return all(any(one.is_called(name) for one in self.classes) for name in names)


@dataclass(frozen=True)
class Prompting:
    """How a model is prompted.

    Attributes:
        kind: Kind of its prompt generator, see `vocabulary.generator_kind`; "" if it is not known.
        classes: The classes that it knows.
    """

    kind: str = ""
    classes: tuple[PromptClass, ...] = ()


def prompting_of(entry: ModelEntry) -> Prompting:
    """Return how a registered model is prompted; nothing is known of one that is not on this machine."""
    if entry.kind == ModelKind.BACKBONE:
        return Prompting()
    path = location(entry)
    try:
        stat = path.stat()
        return _prompting_in(path, stat.st_size, stat.st_mtime_ns)
    except (CheckpointError, OSError, ValueError, KeyError, struct.error) as error:  # reported where it is used
        logger.info("the classes of %s: %s", entry.name, error)
        return Prompting()


@functools.lru_cache(maxsize=64)
def _prompting_in(path: Path, size: int, changed_ns: int) -> Prompting:
    """Read the header of a file, again only after it was replaced; lists of models are made at every look."""
    metadata = _metadata(path)
    return Prompting(generator_kind(metadata), vocabulary_in(metadata))


def classes_of(entry: ModelEntry) -> tuple[PromptClass, ...]:
    """Return the classes of a registered model; none if it is not on this machine or reads supports."""
    return prompting_of(entry).classes


def _metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a safetensors file without its package, which a list of models need not wait for.

    The file begins with the length of its JSON header, 8 bytes in little-endian order.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _MOST_HEADER:
            return {}
        header = json.loads(file.read(length))
    return json.loads(header["__metadata__"]["proxyprompt"])


def models_with_classes() -> list[Knowing]:
    """Return the models on this machine that know classes, in the order of the registry."""
    found = [Knowing(entry.name, classes_of(entry)) for entry in all_entries()]
    return [one for one in found if one.classes]


def models_knowing(names: Sequence[str]) -> list[str]:
    """Return the names of the models that know all of some classes; the first is the one to use by default.

    Raises:
        UsageError: If none does; the nearest classes are named, or which model knows which.
    """
    known = models_with_classes()
    able = [one.model for one in known if one.knows(names)]
    if able:
        return able
    if not known:
        raise UsageError(
            f"no model on this machine knows classes by name, such as '{names[0]}'; import one, or give an annotated "
            "case."
        )
    everything = tuple({one.name: one for model in known for one in model.classes}.values())
    unknown = [name for name in names if not any(one.is_called(name) for one in everything)]
    if unknown:
        nearest = nearest_names(everything, unknown[0])
        raise UsageError(
            f"no model on this machine knows the class '{unknown[0]}'; the nearest of {len(everything)} classes "
            f"{'is' if len(nearest) == 1 else 'are'} {', '.join(nearest)}."
        )
    who = "; ".join(f"'{name}': {', '.join(one.model for one in known if one.knows([name]))}" for name in names)
    raise UsageError(f"no model knows all of these classes together ({who}); segment them one after another.")
