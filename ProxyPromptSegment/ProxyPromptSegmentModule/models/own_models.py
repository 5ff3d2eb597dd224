"""The models that were made or imported under a name on this machine; no Qt, no MRML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.describing import TENSORS_OF
from ProxyPromptSegmentLib.weights.hashing import sha256
from ProxyPromptSegmentLib.weights.own import entry_in, export, forget, register
from ProxyPromptSegmentLib.weights.publish import read_metadata
from ProxyPromptSegmentLib.weights.registry import all_entries, find, location
from ProxyPromptSegmentLib.weights.revising import built_on, description_of, free_name, own_entries, revise
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.weights.entry import ModelEntry


@dataclass(frozen=True, kw_only=True)
class OwnModel:
    """A model of the user's own.

    Attributes:
        name: Its name.
        description: What the list of models says of it.
        described: The user's own words in it; "" if there are none.
        bytes: Size of its file.
        completes: Models that cannot be used without it.
    """

    name: str
    description: str
    described: str
    bytes: int
    completes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """An import.

    Attributes:
        name: Name of the model here.
        own_name: Name that its file gives.
        already_there: Whether it was here before.
    """

    name: str
    own_name: str
    already_there: bool


class OwnModels:
    """What can be done with the models of the user's own."""

    def rows(self) -> list[OwnModel]:
        """Return them in the order of their names."""
        return [_row_of(entry) for entry in own_entries()]

    def revise(self, name: str, new_name: str, described: str) -> str:
        """Give a model another name and other words; return its name.

        Raises:
            ProxyPromptError: If that is not possible; the model is then as it was.
        """
        return revise(find(name), new_name or name, described).name

    def export(self, name: str, path: Path) -> str:
        """Write a model with its card into one file; return the name of the model that completes it, or "".

        Raises:
            ProxyPromptError: If it is not on this machine, or the file cannot be written.
        """
        entry = find(name)
        export(entry, path)
        return entry.base

    def take(self, path: Path) -> Taken:
        """Import a file that `export` wrote; under another name if its own is that of another model.

        Raises:
            ProxyPromptError: If it is no such file, or something cannot be written.
        """
        own = entry_in(path)
        digests = {sha256(path), read_metadata(path).get(TENSORS_OF)}  # it may have been described for the export
        here = next((one for one in all_entries() if one.sha256 in digests and location(one).is_file()), None)
        if here is not None:
            return Taken(name=here.name, own_name=own.name, already_there=True)
        made = register(path, free_name(own.name))
        return Taken(name=made.name, own_name=own.name, already_there=False)

    def remove(self, name: str) -> int:
        """Remove a model of the user's own; return the number of bytes freed.

        Raises:
            ProxyPromptError: If it is none, others need it, or it cannot be removed.
        """
        return remove_own(find(name))


def remove_own(entry: ModelEntry) -> int:
    """Remove file, card and entry of a model of the user's own; return the number of bytes freed.

    Raises:
        CheckpointError: If other models need it.
        OutputError: If it cannot be removed.
    """
    if names := built_on(entry):
        raise CheckpointError(
            _("'{name}' completes {names}, which cannot be used without it; remove those first.").format(
                name=entry.name, names=", ".join(names)
            )
        )
    freed = ModelCache().remove(entry)
    forget(entry)
    return freed


def _row_of(entry: ModelEntry) -> OwnModel:
    try:
        described = description_of(entry)
    except CheckpointError:  # a damaged file can still be removed
        described = ""
    return OwnModel(
        name=entry.name,
        description=entry.description,
        described=described,
        bytes=entry.bytes or 0,
        completes=tuple(built_on(entry)),
    )
