"""Weights that made a result: whether they are those of now, and how to have them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ProxyPromptSegmentLib.weights.entry import ModelEntry
from ProxyPromptSegmentLib.weights.registry import all_entries, location

_SHOWN = 8  # digits of a hash that tell weights apart


@dataclass(frozen=True, kw_only=True)
class MadeWith:
    """The weights of a result.

    Attributes:
        name: Name of the model when it was made.
        sha256: SHA-256 of its file.
    """

    name: str
    sha256: str

    @property
    def title(self) -> str:
        """Name and beginning of the hash."""
        return f"{self.name} ({self.sha256[:_SHOWN]})"


def note_on(made: MadeWith, entries: Sequence[ModelEntry] | None = None, folder: Path | None = None) -> str:
    """Return what to know of the weights that made a result; "" if they are the present ones of that name.

    Args:
        made: The weights.
        entries: The registry; by default that of this machine.
        folder: Folder of the registry, for tests.
    """
    known = all_entries(folder) if entries is None else entries
    same = next((one for one in known if (one.sha256 or "").lower() == made.sha256.lower()), None)
    if same is not None and same.name == made.name and not same.replaced_by:
        return ""
    if same is None:
        return (
            f"These weights ({made.title}) are not known to this program: their results can be kept, but not be "
            "repeated or continued. Import their file if you have it."
        )
    if location(same, folder).is_file():
        return f"These weights are on this computer as the model {same.name}."
    return f"These weights of an earlier version are not on this computer. {same.description}"
