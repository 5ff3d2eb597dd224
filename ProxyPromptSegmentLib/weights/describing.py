"""What a file of an adapted model says of itself, with another name and other words; its tensors stay as they are.

On this machine name and words are in the list of models and in the card: the file, by whose hash run records, models on
it and adaptations from it know it, is not touched. They enter a file when it is exported.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, BinaryIO

from ProxyPromptSegmentLib.imaging.output_files import safe_output

TENSORS_OF = "tensors_of"
"""Key of the hash of the file whose tensors an exported file has, with other words about them."""
_LENGTH_BYTES = 8


def words_in(said: dict[str, Any], description: str) -> str:
    """Return the user's own words in the description of a model.

    Args:
        said: Metadata of its file.
        description: What the list of models says of it.
    """
    return description.removesuffix(_own_description(said)).strip()


def described_with(said: dict[str, Any], words: str) -> str:
    """Return the description of a model with the user's own words in front of what its file says."""
    return f"{words} {_own_description(said)}".strip()


def revised(said: dict[str, Any], name: str, words: str) -> dict[str, Any]:
    """Return the metadata of a file with another name and other words, in the card as well."""
    card, former = str(said.get("card", "")), str(said.get("described", ""))
    if former:
        card = card.replace(f"\n{former}\n\n", "\n", 1)
    head, _, rest = card.partition("\n")
    if head == f"# {said.get('name')}":
        head = f"# {name}"
    card = f"{head}\n" + (f"\n{words}\n" if words else "") + rest
    entry = {**(said.get("entry") or {}), "description": described_with(said, words)}
    return {**said, "name": name, "described": words, "card": card, "entry": entry}


def with_metadata(source: Path, target: Path, said: dict[str, Any], *, replace: bool = True) -> None:
    """Copy a checkpoint with other metadata, its tensors byte by byte; ``replace`` an existing file or not.

    Raises:
        OutputError: If it cannot be written.
    """
    with source.open("rb") as file, safe_output(target, replace) as partial, partial.open("wb") as out:
        header = json.loads(file.read(_length(file)))
        header["__metadata__"] = {**header.get("__metadata__", {}), "proxyprompt": json.dumps(said)}
        text = json.dumps(header).encode("utf-8")
        text += b" " * (-len(text) % _LENGTH_BYTES)  # tensors begin at a multiple of eight bytes
        out.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        shutil.copyfileobj(file, out)


def _own_description(said: dict[str, Any]) -> str:
    """Return what a file says of itself without the user's words in it."""
    own, former = str((said.get("entry") or {}).get("description", "")), str(said.get("described", ""))
    return own.removeprefix(former).strip() if former else own


def _length(file: BinaryIO) -> int:
    """Return the length of the header of a safetensors file, in bytes."""
    return int.from_bytes(file.read(_LENGTH_BYTES), "little")
