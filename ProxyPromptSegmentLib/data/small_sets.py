"""The small sets for breadth: a folder of ``images`` and ``masks`` each, described by the manifest alone.

Their objects are what the manifest's ``labels`` says (``1 pancreas; 2 kidneys``), their parts what its ``split`` says
and `splits.small_set_part` makes of it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.splits import small_set_part
from ProxyPromptSegmentLib.errors import InputError

ENDINGS = (".webp", ".png", ".jpg")


@dataclass(frozen=True, kw_only=True)
class SmallSet:
    """One small set, divided by subject.

    Attributes:
        name: Name of the data set.
        objects: Names of its objects, in the order of their label ids.
        parts: ``train``, ``validation``, ``test`` and ``unseen`` -> their cases, one image each; parts may be empty.
    """

    name: str
    objects: tuple[str, ...]
    parts: dict[str, list[Case]]


def small_set_names(root: Path) -> list[str]:
    """Return the names of the small sets in a folder of data sets: those whose rows have labels and a split."""
    return sorted({row["dataset"] for row in _rows(root) if row.get("labels") and row.get("split")})


def parse_labels(labels: str) -> dict[int, str]:
    """Return label id -> object of a text like ``1 pancreas; 2 kidneys``.

    Raises:
        InputError: If a part of the text is no id followed by a name, or the same id or name comes twice.
    """
    found = [re.fullmatch(r"(\d+)\s+(\S.*)", part.strip()) for part in labels.split(";")]
    pairs = [(int(match[1]), match[2].strip()) for match in found if match]
    if len(pairs) < len(found) or len({n for n, _ in pairs}) < len(pairs) or len({o for _, o in pairs}) < len(pairs):
        raise InputError(
            f"the labels {labels!r} of the manifest are not understood; write an id and a name for each object, such "
            "as '1 pancreas; 2 kidneys'."
        )
    return dict(sorted(pairs))


def load_small_set(root: Path, name: str) -> SmallSet:
    """Read one small set.

    Args:
        root: Folder that contains ``manifest.csv`` and a folder per data set.
        name: Name of the set.

    Returns:
        The set; images are grey ``(1, H, W)`` or colour ``(1, H, W, 3)``.

    Raises:
        InputError: If the set is unknown or a file is missing.
    """
    root = Path(root)
    rows = [row for row in _rows(root) if row["dataset"] == name and row.get("labels") and row.get("split")]
    if not rows:
        there = ", ".join(small_set_names(root)) or "none"
        raise InputError(f"there is no small set {name!r} in {root}; there are: {there}. Give one of these.")
    labels = parse_labels(rows[0]["labels"])
    parts: dict[str, list[Case]] = {"train": [], "validation": [], "test": [], "unseen": []}
    for row in sorted(rows, key=lambda row: row["name"]):
        part = small_set_part(name, row["patient"], row["split"])
        parts[part].append(_read(root / name, row["name"], row["patient"], name, labels))
    return SmallSet(name=name, objects=tuple(labels.values()), parts=parts)


def _rows(root: Path) -> list[dict[str, str]]:
    manifest = Path(root) / "manifest.csv"
    if not manifest.is_file():
        raise InputError(f"{manifest} is missing; give the folder of the data sets, which contains it.")
    with manifest.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _read(folder: Path, item: str, patient: str, dataset: str, labels: dict[int, str]) -> Case:
    from PIL import Image

    with Image.open(_existing(folder / "images" / f"{item}{ending}" for ending in ENDINGS)) as image:
        grey = image.mode in ("L", "I;16", "I", "F")
        pixels = np.asarray(image if grey else image.convert("RGB"), dtype=np.float32)
    with Image.open(_existing([folder / "masks" / f"{item}.png"])) as mask:
        ids = np.asarray(mask)
    masks = np.stack([ids == value for value in labels])[None].astype(np.uint8)
    return Case(
        dataset=dataset,
        patient=patient,
        images=pixels[None],
        masks=masks,
        objects=tuple(labels.values()),
        spacing_mm=None,
        name=item,
    )


def _existing(paths: Iterable[Path]) -> Path:
    listed = list(paths)
    found = next((path for path in listed if path.is_file()), None)
    if found is None:
        raise InputError(f"{listed[0]} is listed in the manifest but missing. Restore the data set's folder.")
    return found
