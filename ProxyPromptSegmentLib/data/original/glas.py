"""GlaS: bitmaps with a number for each gland, and a table that says of which patient a picture is.

Warwick QU Dataset/train_1.bmp, Warwick QU Dataset/train_1_anno.bmp, testA_1.bmp, testB_1.bmp, ..., Grade.csv
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.original.items import TEST, TRAIN, Item, case_of, labels, picture

MARK = "_anno"


def items(folder: Path) -> list[Item]:
    """Return the annotated pictures; empty if the folder has another layout."""
    patients = _patients(folder / "Grade.csv")
    found = []
    for truth in sorted(folder.glob(f"*{MARK}.bmp")):
        image = truth.with_name(truth.name.replace(MARK, ""))
        if image.is_file() and image.stem.startswith(("train", "test")):
            part = TRAIN if image.stem.startswith("train") else TEST
            patient = patients.get(image.stem, image.stem)
            found.append(Item(image.stem, patient, partial(_read, image.stem, patient, image, truth), part))
    return found


def _patients(table: Path) -> dict[str, str]:
    """Return picture -> patient; empty if the table is missing."""
    if not table.is_file():
        return {}
    with table.open(newline="", encoding="utf-8-sig") as lines:
        rows = [
            {key.strip(): (value or "").strip() for key, value in row.items() if key} for row in csv.DictReader(lines)
        ]
    return {row["name"]: row["patient ID"] for row in rows if row.get("name") and row.get("patient ID")}


def _read(name: str, patient: str, image: Path, truth: Path) -> Case:
    return case_of("glas", name, patient, picture(image), {"glands": labels(truth) > 0})
