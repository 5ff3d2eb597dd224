"""The data sets of a protocol as they are given: the original, or what stands for it, divided by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.data.cases import DATASETS, Case
from ProxyPromptSegmentLib.data.original.formats import find_original
from ProxyPromptSegmentLib.data.original.items import TEST, TRAIN, Item
from ProxyPromptSegmentLib.data.parts import load_parts
from ProxyPromptSegmentLib.data.small_sets import small_set_names
from ProxyPromptSegmentLib.data.splits import PARTS
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.paper.protocol import DataNeed

UNION = " + "
VALIDATION_SHARE = 10  # one in so many patients of an original set that its few-shot rows do not learn from
TRAINING_SHARE = 0.8  # of the patients, where a table has rows that learn from the whole set


@dataclass(frozen=True, kw_only=True)
class Division:
    """How an original set is divided by patient where its publisher did not; the same for all systems of a table.

    Attributes:
        patients: Number of patients for training, at least.
        whole: Whether there are systems that learn from the whole set: `TRAINING_SHARE` of it is for training then.
        seed: Seed of the order of the patients.
    """

    patients: int
    whole: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A data set of a protocol.

    Attributes:
        need: What the protocol asks for.
        name: Name of the data set that is there.
        original: Whether it is the paper's own.
        parts: ``train``, ``validation`` and ``test`` -> items, whose cases have the columns of the table as objects.
    """

    need: DataNeed
    name: str
    original: bool
    parts: dict[str, list[Item]]

    @property
    def title(self) -> str:
        """The words of the table: the paper's name, and what stands for it."""
        if self.original:
            return self.need.title
        return f"{self.need.title} ({'reduced' if self.reduced else 'stand-in'}: {self.name})"

    @property
    def reduced(self) -> bool:
        """Whether it is a part of the paper's own data set."""
        return not self.original and self.name == self.need.original


def what_is_there(need: DataNeed, data: Path) -> str:
    """Return what of a data set a folder holds: ``original``, the name of the stand-in, or an empty text."""
    if need.original and find_original(data, need.original):
        return "original"
    return need.stand_in if need.stand_in and _has(data, need.stand_in) else ""


def _has(data: Path, name: str) -> bool:
    if not (data / name).is_dir() or not (data / "manifest.csv").is_file():
        return False
    return name in DATASETS or name in small_set_names(data)


def load(need: DataNeed, data: Path, division: Division) -> Loaded:
    """Read a data set.

    Args:
        need: The data set.
        data: Folder of the data sets.
        division: How an original set is divided that its publisher did not divide.

    Raises:
        InputError: If neither the original nor its stand-in is there.
    """
    found = find_original(data, need.original) if need.original else []
    if found:
        parts = _divided(found, division)
        return Loaded(need=need, name=need.original, original=True, parts=_with_columns(parts, need.objects))
    if not (need.stand_in and _has(data, need.stand_in)):
        stand_in = f" or {need.stand_in}, which stands for it" if need.stand_in else ""
        raise InputError(f"{data} holds no {need.title}{stand_in}; see Docs/evaluation.md for the layouts.")
    cases = load_parts(data, need.stand_in)
    parts = {part: [_item(case) for case in getattr(cases, part)] for part in PARTS}
    if not parts["train"] and need.lent:
        parts["train"] = [_item(case) for case in load_parts(data, need.lent).train]
    objects = need.stand_in_objects or need.objects
    return Loaded(need=need, name=need.stand_in, original=False, parts=_with_columns(parts, objects))


def _item(case: Case) -> Item:
    return Item(case.name, case.patient, lambda: case)


def _divided(items: Sequence[Item], division: Division) -> dict[str, list[Item]]:
    """Divide the items of an original set by patient: as its publisher did, or as a table needs it."""
    everybody = sorted({item.patient for item in items})
    order = [everybody[n] for n in np.random.default_rng([division.seed, len(everybody)]).permutation(len(everybody))]
    tested = {item.patient for item in items if item.part == TEST}
    if tested and any(item.part == TRAIN for item in items):
        learned = [patient for patient in order if patient not in tested]
        held = set(learned[: max(1, len(learned) // VALIDATION_SHARE)])
        train = set(learned) - held
    else:
        patients = max(division.patients, round(TRAINING_SHARE * len(order)) if division.whole else 0)
        train = set(order[:patients])
        rest = order[patients:]
        held = set(rest[: max(1, len(rest) // VALIDATION_SHARE)]) if len(rest) > 1 else set()
        tested = set(rest) - held
    whole = dict(zip(PARTS, (train, held, tested), strict=True))
    return {part: [item for item in items if item.patient in mine] for part, mine in whole.items()}


def _with_columns(parts: Mapping[str, Sequence[Item]], objects: Mapping[str, str]) -> dict[str, list[Item]]:
    """Return items whose cases have the columns of a table as their objects."""

    def narrowed(item: Item) -> Item:
        return replace(item, read=lambda: with_columns(item.read(), objects))

    return {part: [narrowed(item) for item in items] for part, items in parts.items()}


def with_columns(case: Case, objects: Mapping[str, str]) -> Case:
    """Return a case with the columns of a table as its objects, each one or the union of several of the case's.

    Raises:
        InputError: If the case has no such object.
    """
    masks = []
    for wanted in objects.values():
        names = wanted.split(UNION) if wanted not in case.objects else [wanted]
        missing = [name for name in names if name not in case.objects]
        if missing:
            raise InputError(
                f"{case.dataset} {case.name} has no object '{missing[0]}', but {', '.join(case.objects)}; check its "
                "files."
            )
        masks.append(case.masks[:, [case.objects.index(name) for name in names]].max(axis=1))
    return replace(case, masks=np.stack(masks, axis=1), objects=tuple(objects))
