"""Splits into training, validation and test: by patient, sweep or block, never by slice.

The rule needs no random generator: patients are ordered by a hash of their name, so that the split is
the same on every machine and with every library version. The result is stored in
``Resources/splits/<name>.json``; a test compares the two. The small sets have a split of their own in the manifest, of
which `small_set_part` takes a fifth of the training subjects for validation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.resources import resource_path

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case

PARTS = ("train", "validation", "test")
UNSEEN = "unseen"  # a small set that no model may be trained on
SMALL_SET_SHARE = 5  # one in five training subjects of a small set is for validation

# Numbers of patients for training and validation; the rest is for testing. (0, 0): the set is only for testing.
COUNTS = {
    "promise12": (14, 3),
    "acdc": (15, 3),
    "drishti_gs": (30, 6),
    "drive": (24, 4),
    "ccaus_video": (3, 1),
    "colondb": (0, 0),  # frames of unknown sweeps: cannot be divided safely
    "endoscene": (0, 0),
    "prostate158": (0, 0),
}

# PSFHS: neighbouring blocks can share a sweep (near-duplicate frames: correlation > 0.97 at 32 x 32 pixels; up
# to 68 such pairs across one border). With these blocks 4 such pairs lie between training and test, 1 between
# training and validation. Chosen on the images alone, before any model was trained.
FIXED = {
    "psfhs": {
        "validation": ("block01", "block15"),
        "test": ("block07", "block08", "block18", "block19"),
    }
}


@dataclass(frozen=True, kw_only=True)
class Split:
    """The cases of one data set, divided by patient.

    Attributes:
        train: Cases to fit weights on.
        validation: Cases to choose settings on.
        test: Cases that are evaluated once, for the report.
    """

    train: list[Case]
    validation: list[Case]
    test: list[Case]


def split_patients(patients: Iterable[str], name: str) -> dict[str, list[str]]:
    """Divide patients into train, validation and test.

    Args:
        patients: Patients, sweeps or blocks; repeats and order do not matter.
        name: Name of the data set.

    Returns:
        The sorted patients of each part.

    Raises:
        InputError: If no split is defined for this data set.
    """
    known = sorted(set(patients))
    if name in FIXED:
        held = {part: sorted(FIXED[name][part]) for part in ("validation", "test")}
        train = [p for p in known if all(p not in part for part in held.values())]
        return {"train": train, **{part: [p for p in held[part] if p in known] for part in held}}
    if name not in COUNTS:
        raise InputError(
            f"no split is defined for {name!r}; there is one for {', '.join(sorted([*COUNTS, *FIXED]))}. Add the "
            "numbers of patients to splits.py."
        )
    ordered = sorted(known, key=lambda patient: hashlib.sha256(f"{name}/{patient}".encode()).hexdigest())
    first, second = COUNTS[name]
    return {
        "train": sorted(ordered[:first]),
        "validation": sorted(ordered[first : first + second]),
        "test": sorted(ordered[first + second :]),
    }


def split(cases: Sequence[Case], name: str) -> Split:
    """Divide cases so that no patient is in two parts.

    Args:
        cases: Cases of one data set, as returned by ``load_dataset``.
        name: Name of the data set.

    Returns:
        The three lists of cases, each in the given order.
    """
    patients = split_patients((case.patient for case in cases), name)
    return Split(**{part: [case for case in cases if case.patient in patients[part]] for part in PARTS})


def small_set_part(name: str, patient: str, split: str) -> str:
    """Return the part of a subject of a small set: the manifest's, or validation for a fifth of its training subjects.

    Args:
        name: Name of the data set.
        patient: The manifest's ``patient``.
        split: The manifest's ``split``: ``train``, ``test`` or ``unseen``.

    Returns:
        ``train``, ``validation``, ``test`` or ``unseen``.

    Raises:
        InputError: If the manifest has another word.
    """
    if split not in ("train", "test", UNSEEN):
        raise InputError(
            f"the manifest puts {name} {patient} into the part {split!r}; a small set has train, test and {UNSEEN}. "
            "Correct its row."
        )
    held = int(hashlib.sha256(f"{name}/{patient}".encode()).hexdigest(), 16) % SMALL_SET_SHARE == 0
    return "validation" if split == "train" and held else split


def write_split(patients: dict[str, list[str]], name: str, folder: Path | None = None) -> Path:
    """Write a split as JSON, by default among the program's own, and return the path."""
    path = Path(folder or resource_path("splits")) / f"{name}.json"
    path.write_text(json.dumps({"dataset": name, **patients}, indent=2) + "\n", encoding="utf-8")
    return path


def read_split(name: str, folder: Path | None = None) -> dict[str, list[str]]:
    """Read the patients of each part, by default from the program's own resources.

    Raises:
        InputError: If there is no such file.
    """
    path = Path(folder or resource_path("splits")) / f"{name}.json"
    if not path.is_file():
        raise InputError(f"{path} is missing; it contains the split of {name!r}. Restore Resources/splits.")
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {part: stored[part] for part in PARTS}
