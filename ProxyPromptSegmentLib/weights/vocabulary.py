"""The classes that a model knows by name and needs no support for; read from its file without torch.

A vocabulary is part of the prompt generator's configuration in the checkpoint: `metadata["model"]["generator"]` has it
under `classes`, and `metadata["model"]["generator_kind"]` says which generator reads it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.typed_json import JsonError, read_value
from ProxyPromptSegmentLib.weights.publish import read_metadata
from ProxyPromptSegmentLib.weights.registry import resolve

PROXY = "proxy"
"""The kind of generator that reads supports and knows no classes; files of earlier versions name no kind."""

IMAGE = "image"
"""The kind of generator that prompts by the image alone, for the structures that it was trained on (AutoSAM)."""

FEW = 4
"""A model with so many classes or fewer looks for all of them unless some are named."""

MOST_NEAREST = 3

_SPELLINGS = {
    "tumor": "tumour",
    "tumors": "tumours",
    "disk": "disc",
    "disks": "discs",
    "foetal": "fetal",
    "leucocyte": "leukocyte",
    "leucocytes": "leukocytes",
    "hemorrhage": "haemorrhage",
    "esophagus": "oesophagus",
}
"""Words of names of classes that are spelled in two ways; either finds the class."""


@dataclass(frozen=True)
class PromptClass:
    """A class of a vocabulary.

    Attributes:
        name: Name for the user, as in ``--class``; unique in its vocabulary, in upper or lower case.
        code: Code of the structure in the terminology; "" if it has none.
        scheme: The terminology: ``SCT`` is SNOMED CT, as in Slicer.
        meaning: The terminology's own words for the code; by default the name.
        color_rgb: Red, green, blue in 0..1; None for the default colour.
        modalities: Kinds of image that can show it, as in `imaging.modality`; empty if any can.
        one_piece: Whether it is a single connected structure, so that small separate parts of a mask are removed.
        synonyms: Other names for it.
        category: Code of the terminology's category, ``SCT``.
        category_meaning: Words for it.
    """

    name: str
    code: str = ""
    scheme: str = "SCT"
    meaning: str = ""
    color_rgb: tuple[float, float, float] | None = None
    modalities: tuple[str, ...] = ()
    one_piece: bool = False
    synonyms: tuple[str, ...] = ()
    category: str = "123037004"
    category_meaning: str = "Anatomical Structure"

    @property
    def terminology(self) -> dict[str, Any] | None:
        """Slicer's terminology entry in ``slicerio``'s form; None without a code."""
        if not self.code:
            return None
        return {
            "contextName": "Segmentation category and type - 3D Slicer General Anatomy list",
            "category": ["SCT", self.category, self.category_meaning],
            "type": [self.scheme, self.code, self.meaning or self.name],
        }

    def is_called(self, name: str) -> bool:
        """Return whether a text is the name, a synonym or the code of this class."""
        asked = _plain(name)
        return asked in (_plain(self.name), *map(_plain, self.synonyms)) or (bool(self.code) and asked == self.code)


def generator_kind(metadata: Mapping[str, Any]) -> str:
    """Return the kind of prompt generator that a checkpoint's metadata describes; `PROXY` if they name none."""
    described = metadata.get("model")
    return str(described.get("generator_kind", PROXY)) if isinstance(described, Mapping) else PROXY


def vocabulary_in(metadata: Mapping[str, Any]) -> tuple[PromptClass, ...]:
    """Return the classes that a checkpoint's metadata names; none for a generator that reads supports.

    Raises:
        CheckpointError: If they are damaged.
    """
    described = metadata.get("model")
    generator = described.get("generator") if isinstance(described, Mapping) else None
    listed = generator.get("classes") if isinstance(generator, Mapping) else None
    if listed is None:
        return ()
    try:
        return read_value(tuple[PromptClass, ...], listed, "classes")
    except JsonError as error:
        raise CheckpointError(f"the classes of this model cannot be read: {error}; fetch its file again.") from None


def vocabulary_of(model: str) -> tuple[PromptClass, ...]:
    """Return the classes of a model by its name or path; none if it reads supports.

    Raises:
        CheckpointError: If the model is unknown, not on this machine or damaged.
    """
    return vocabulary_in(read_metadata(resolve(model)[0]))


def chosen_classes(
    vocabulary: Sequence[PromptClass], names: Iterable[str], whose: str = "the model"
) -> tuple[PromptClass, ...]:
    """Return the classes that are asked for, in that order and each once; all of them if no name is given.

    Args:
        vocabulary: The classes that there are.
        names: Names, synonyms or codes, in upper or lower case.
        whose: Whose vocabulary it is, for the message.

    Raises:
        UsageError: If one is unknown; the nearest ones are named.
    """
    found: list[PromptClass] = []
    for name in names:
        one = next((one for one in vocabulary if one.is_called(name)), None)
        if one is None:
            known = _which(nearest_names(vocabulary, name), vocabulary)
            raise UsageError(f"{whose} does not know the class '{name}'; {known}.")
        if one not in found:
            found.append(one)
    return tuple(found) or tuple(vocabulary)


def nearest_names(vocabulary: Sequence[PromptClass], name: str, most: int = MOST_NEAREST) -> list[str]:
    """Return the names of the classes that are spelled most like a text, the best first; all of them if few."""
    score: dict[str, float] = {}
    asked = _plain(name)
    for one in vocabulary:
        spelled = [_plain(text) for text in (one.name, one.meaning, *one.synonyms) if text]
        alike = max(difflib.SequenceMatcher(None, asked, text).ratio() for text in spelled)
        shared = max(len(set(asked.split()) & set(text.split())) for text in spelled)
        score[one.name] = alike + shared
    return sorted(score, key=lambda known: -score[known])[:most]


def _which(nearest: Sequence[str], vocabulary: Sequence[PromptClass]) -> str:
    if not vocabulary:
        return "it knows none"
    if len(vocabulary) <= MOST_NEAREST:
        return f"it knows {', '.join(nearest)}"
    return f"the nearest of its {len(vocabulary)} classes are {', '.join(nearest)}"


def _plain(text: str) -> str:
    words = text.casefold().replace("_", " ").replace("-", " ").split()
    return " ".join(_SPELLINGS.get(word, word) for word in words)
