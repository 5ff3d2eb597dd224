"""Models of the user's own, revised: another name, other words; what they have learned stays bit for bit."""

from __future__ import annotations

import json
import shutil
import tempfile
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from ProxyPromptSegmentLib.errors import CheckpointError, OutputError
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.entry import OWN_SUFFIX, ModelEntry
from ProxyPromptSegmentLib.weights.own import check_free, is_own, register, write_card
from ProxyPromptSegmentLib.weights.publish import read_metadata
from ProxyPromptSegmentLib.weights.registry import all_entries, location

LONGEST = 500
"""Letters of a description."""
_LENGTH_BYTES = 8
_LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "ä": "ae", "ö": "oe", "ü": "ue"}


def plain_name(text: str) -> str:
    """Return the nearest name that a model may have: lower case, without umlauts and slashes; "" if none is left."""
    spelled = "".join(_LETTERS.get(letter, letter) for letter in unicodedata.normalize("NFC", text.strip().lower()))
    ascii_only = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode("ascii")
    words = "".join(letter if letter.isalnum() or letter in "._+-" else " " for letter in ascii_only).split()
    name = "-".join(words).strip("._+-")[:60]
    while ".." in name:
        name = name.replace("..", ".")
    return name


def free_name(text: str) -> str:
    """Return a name like a text under which no model is on this machine."""
    name = plain_name(text) or "model"
    for candidate in (name, *(f"{name}-{number}" for number in range(2, 1000))):
        try:
            check_free(candidate)
        except CheckpointError:
            continue
        return candidate
    return name


def own_entries() -> list[ModelEntry]:
    """Return the models that were made or imported under a name on this machine, in the order of their names."""
    return sorted((entry for entry in all_entries() if is_own(entry)), key=lambda entry: entry.name)


def built_on(entry: ModelEntry) -> list[str]:
    """Return the names of the models that a model completes, which cannot be used without it."""
    return [one.name for one in all_entries() if one.base == entry.name]


def description_of(entry: ModelEntry) -> str:
    """Return the user's own words about a model; "" if there are none."""
    return str(read_metadata(location(entry)).get("described", ""))


def revise(entry: ModelEntry, name: str, described: str) -> ModelEntry:
    """Give a model of the user's own another name and other words, in its file, its card and the list of models.

    The tensors of the file stay as they are.

    Args:
        entry: The model.
        name: Its new name; the old one keeps it.
        described: The user's words about it; "" for none. They go with the model wherever it is imported.

    Returns:
        The new entry.

    Raises:
        CheckpointError: If it is no model of the user's own, others are built on it, or the name is taken.
        OutputError: If something cannot be written; the model is then as it was.
    """
    if not is_own(entry):
        raise CheckpointError(f"'{entry.name}' is no model of your own; only those can be renamed and described.")
    if names := built_on(entry):
        raise CheckpointError(
            f"'{entry.name}' completes {', '.join(names)}, which would no longer find it; it stays as it is."
        )
    if name != entry.name:
        check_free(name)
    source = location(entry)
    if not source.is_file():
        raise CheckpointError(
            f"the weights of '{entry.name}' are not on this machine",
            Remedy(kind=RemedyKind.DOWNLOAD_MODEL, model=entry.name),
        )
    words = " ".join(described.split())[:LONGEST]
    said = _revised(read_metadata(source), entry.name, name, words)
    with tempfile.TemporaryDirectory(prefix="proxyprompt-") as place:
        before, after = Path(place) / f"before{OWN_SUFFIX}", Path(place) / f"{name}{OWN_SUFFIX}"
        try:
            shutil.copyfile(source, before)
        except OSError as error:
            raise OutputError(f"'{entry.name}' cannot be copied: {error}; free some space.") from None
        with_metadata(before, after, said)
        try:
            return register(after, replaced=entry)
        except BaseException:
            ModelCache().take(entry, before)  # as it was
            with suppress(OutputError):
                write_card(entry, before)
            raise


def _revised(said: dict[str, Any], old: str, name: str, words: str) -> dict[str, Any]:
    """Return the metadata of a file with another name and other words, in the card as well."""
    card = str(said.get("card", ""))
    former = str(said.get("described", ""))
    if former:
        card = card.replace(f"\n{former}\n\n", "\n", 1)
    head, _, rest = card.partition("\n")
    if head in (f"# {old}", f"# {said.get('name')}"):  # an import under another name leaves the file as it is
        head = f"# {name}"
    card = f"{head}\n" + (f"\n{words}\n" if words else "") + rest
    entry = dict(said.get("entry") or {})
    own = str(entry.get("description", ""))
    if former:
        own = own.removeprefix(former).strip()
    entry["description"] = f"{words} {own}".strip()
    return {**said, "name": name, "described": words, "card": card, "entry": entry}


def with_metadata(source: Path, target: Path, said: dict[str, Any]) -> None:
    """Copy a checkpoint with other metadata; its tensors are copied byte by byte.

    Raises:
        OutputError: If it cannot be written.
    """
    with source.open("rb") as file, safe_output(target) as partial, partial.open("wb") as out:
        header = json.loads(file.read(_length(file)))
        header["__metadata__"] = {**header.get("__metadata__", {}), "proxyprompt": json.dumps(said)}
        text = json.dumps(header).encode("utf-8")
        text += b" " * (-len(text) % _LENGTH_BYTES)  # tensors begin at a multiple of eight bytes
        out.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        shutil.copyfileobj(file, out)


def _length(file: BinaryIO) -> int:
    """Return the length of the header of a safetensors file, in bytes."""
    return int.from_bytes(file.read(_LENGTH_BYTES), "little")
