"""Models of the user's own, revised: another name, other words; what they have learned stays bit for bit."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.weights.describing import described_with, words_in
from ProxyPromptSegmentLib.weights.entry import OWN_SUFFIX, ModelEntry
from ProxyPromptSegmentLib.weights.own import check_free, is_own, put_in
from ProxyPromptSegmentLib.weights.publish import read_metadata
from ProxyPromptSegmentLib.weights.registry import all_entries, location

LONGEST = 500
"""Letters of a description."""
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
    return words_in(read_metadata(location(entry)), entry.description)


def revise(entry: ModelEntry, name: str, described: str) -> ModelEntry:
    """Give a model of the user's own another name and other words, in the list of models and in its card.

    Its file stays bit for bit, and so does the hash by which run records and other models know it; name and words enter
    the file that an export writes.

    Args:
        entry: The model.
        name: Its new name; the old one keeps it.
        described: The user's words about it; "" for none. They go with the model wherever it is imported.

    Returns:
        The new entry.

    Raises:
        CheckpointError: If it is no model of the user's own, it is renamed while others are built on it, or the name is
            taken.
        OutputError: If something cannot be written; the model is then as it was.
    """
    if not is_own(entry):
        raise CheckpointError(f"'{entry.name}' is no model of your own; only those can be renamed and described.")
    if name != entry.name:
        if names := built_on(entry):
            raise CheckpointError(
                f"'{entry.name}' completes {', '.join(names)}, which would no longer find it; it keeps its name."
            )
        check_free(name)
    source = location(entry)
    if not source.is_file():
        raise CheckpointError(
            f"the weights of '{entry.name}' are not on this machine",
            Remedy(kind=RemedyKind.DOWNLOAD_MODEL, model=entry.name),
        )
    words = " ".join(described.split())[:LONGEST]
    file = entry.file if name == entry.name else f"{name}{OWN_SUFFIX}"
    description = described_with(read_metadata(source), words)
    return put_in(replace(entry, name=name, file=file, description=description), source, replaced=entry)
