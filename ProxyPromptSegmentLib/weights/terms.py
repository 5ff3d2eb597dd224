"""The terms under which the weights of a model may be used: its licence, and those of the data it was trained on."""

from __future__ import annotations

import re
from pathlib import Path

from ProxyPromptSegmentLib.weights.entry import ModelEntry
from ProxyPromptSegmentLib.weights.own import card_of
from ProxyPromptSegmentLib.weights.registry import models_folder

_SECTION = "## Data"
_ROW = re.compile(r"^\|(?P<title>[^|]+)\|(?P<text>[^|]+)\|\s*$")
_HEADINGS = ("licence", "what")


def terms_of(entry: ModelEntry, folder: Path | None = None) -> list[tuple[str, str]]:
    """Return the terms of a model as pairs of title and text, as its card lists them.

    Args:
        entry: The model.
        folder: Folder of the registry, for tests.

    Returns:
        The licence of the weights first, then the sets that they were trained on, by licence; without a card, what the
        registry says.
    """
    stated = [("Licence of the weights", entry.licence or "not stated; ask whoever made them")]
    card = (folder or models_folder()) / f"{entry.name}.md" if entry.embedded else card_of(entry)
    try:
        text = card.read_text(encoding="utf-8")
    except OSError:
        text = ""
    sets = _table(text)
    return [*stated, *(sets or [("Trained on", entry.trained_on or "not stated")])]


def _table(card: str) -> list[tuple[str, str]]:
    """Return the rows of the table of data sets in a card, without marks."""
    section = card.partition(f"\n{_SECTION}\n")[2].partition("\n## ")[0]
    rows = []
    for line in section.splitlines():
        row = _ROW.match(line)
        if row is None or set(row["title"].strip()) <= set("-: ") or row["title"].strip() in _HEADINGS:
            continue
        title, text = (re.sub(r"[*`]", "", part).strip() for part in (row["title"], row["text"]))
        rows.append((title[:1].upper() + title[1:], text))
    return rows
