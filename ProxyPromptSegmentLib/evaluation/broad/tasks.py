"""The tasks of the measurements: what is asked for on which targets, and which cases may be supports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case, load_dataset, unit_of
from ProxyPromptSegmentLib.data.small_sets import load_small_set, small_set_names
from ProxyPromptSegmentLib.data.splits import UNSEEN, split
from ProxyPromptSegmentLib.errors import UsageError

VALIDATION, TEST = "validation", "test"
FIRST, SMALL = "first", "small"


@dataclass(frozen=True, kw_only=True)
class Task:
    """Objects that are asked for at once, on the targets of one data set.

    Attributes:
        dataset: Name of the targets' data set.
        objects: The objects; one support slice shows them all.
        targets: The cases to segment, with these objects in this order.
        pool: The cases that may be supports, with the same objects.
        small: Whether it is one of the small sets.
    """

    dataset: str
    objects: tuple[str, ...]
    targets: list[Case]
    pool: list[Case]
    small: bool = False

    def unit(self, case: Case) -> str:
        """See `cases.unit_of`; the set is that of the task, of which a case may know a part only."""
        return unit_of(case, self.dataset)


@dataclass(frozen=True)
class FirstSet:
    """How one of the first sets is measured.

    Attributes:
        dataset: The targets' data set.
        objects: The objects asked for at once.
        supports: Data set of the supports; its training patients, or the other targets if it has none.
        parts: The parts in which it is measured.
    """

    dataset: str
    objects: tuple[str, ...]
    supports: str
    parts: tuple[str, ...] = (VALIDATION, TEST)


# Prostate158 stands for other sites: it is never trained on, and both of its cases are in both parts.
FIRST_SETS = (
    FirstSet("promise12", ("prostate",), "promise12"),
    FirstSet("acdc", ("right ventricle", "myocardium", "left ventricle"), "acdc"),
    FirstSet("psfhs", ("pubic symphysis", "fetal head"), "psfhs"),
    FirstSet("drishti_gs", ("optic disc", "optic cup"), "drishti_gs"),
    FirstSet("drive", ("vessel",), "drive"),
    FirstSet("ccaus_video", ("vessel",), "ccaus_video"),
    FirstSet("prostate158", ("prostate",), "promise12"),
    FirstSet("prostate158", ("transition zone", "peripheral zone"), "prostate158"),
    FirstSet("endoscene", ("polyp",), "kvasir_polyp", (TEST,)),
    FirstSet("colondb", ("polyp",), "kvasir_polyp", (TEST,)),
)


def set_names(data: Path, chosen: Sequence[str] | None = None) -> list[str]:
    """Return the names of the chosen sets: ``first``, ``small`` and names are understood; all by default.

    Raises:
        UsageError: If a name is unknown.
    """
    first, small = list(dict.fromkeys(one.dataset for one in FIRST_SETS)), small_set_names(data)
    groups = {FIRST: first, SMALL: small}
    found: list[str] = []
    for name in chosen or (FIRST, SMALL):
        if name not in groups and name not in first and name not in small:
            raise UsageError(
                f"there is no data set '{name}' in {data}; choose {FIRST}, {SMALL} or some of "
                f"{', '.join([*first, *small])}"
            )
        found += groups.get(name, [name])
    return list(dict.fromkeys(found))


def tasks_of(data: Path, names: Sequence[str], part: str, limit: int | None = None) -> Iterator[Task]:
    """Yield the tasks of some sets, one set in memory at a time; sets without targets in the part have none.

    Args:
        data: Folder of the data sets.
        names: Names of sets, as `set_names` returns them.
        part: ``validation`` or ``test``.
        limit: Largest number of patients (or images, where cases are single images) per task, evenly spread.

    Raises:
        UsageError: If the part is unknown.
    """
    if part not in (VALIDATION, TEST):
        raise UsageError(f"the part is '{part}'; choose {VALIDATION} or {TEST}")
    for name in names:
        own = [one for one in FIRST_SETS if one.dataset == name]
        tasks = (_first(data, one, part) for one in own) if own else _small(data, name, part)
        for task in tasks:
            targets = spread(task.targets, limit)
            if targets and task.pool:
                yield replace(task, targets=targets)


def only(case: Case, objects: tuple[str, ...]) -> Case:
    """Return a case with some of its objects.

    Raises:
        UsageError: If it lacks one.
    """
    missing = [name for name in objects if name not in case.objects]
    if missing:
        raise UsageError(f"{case.dataset} has no object '{missing[0]}'; it has {', '.join(case.objects)}")
    if objects == case.objects:
        return case
    return replace(case, masks=case.masks[:, [case.objects.index(name) for name in objects]], objects=objects)


def spread(cases: list[Case], limit: int | None) -> list[Case]:
    """Return the cases of at most ``limit`` patients, evenly spread; of single images, at most ``limit`` images."""
    single = all(len(case.images) == 1 for case in cases)
    units = list(range(len(cases))) if single else sorted({case.patient for case in cases})
    if limit is None or limit >= len(units):
        return cases
    kept = {units[int(n)] for n in np.linspace(0, len(units) - 1, limit).round()}
    return [case for n, case in enumerate(cases) if (n if single else case.patient) in kept]


def _first(data: Path, one: FirstSet, part: str) -> Task:
    """Return the task of a first set; without targets where the part or the data are not there."""
    empty = Task(dataset=one.dataset, objects=one.objects, targets=[], pool=[])
    if part not in one.parts or not (data / one.dataset).is_dir():
        return empty
    cases = load_dataset(data, one.dataset)
    own = split(cases, one.dataset)
    # A set without training patients is measured whole, in whichever part.
    targets = getattr(own, part) if own.train else cases
    if one.supports == one.dataset:
        pool = own.train or cases
    elif one.supports in small_set_names(data):
        pool = load_small_set(data, one.supports).parts["train"]
    else:
        pool = split(load_dataset(data, one.supports), one.supports).train
    return replace(
        empty,
        targets=[only(case, one.objects) for case in targets],
        pool=[only(case, one.objects) for case in pool],
    )


def _small(data: Path, name: str, part: str) -> Iterator[Task]:
    """Yield one task for each object of a small set: the images of the part that show it."""
    small = load_small_set(data, name)
    unseen = small.parts[UNSEEN]
    targets = unseen if unseen and part == TEST else small.parts[part]
    pool = small.parts["train"] or unseen
    for wanted in small.objects:
        narrowed = [[only(case, (wanted,)) for case in cases] for cases in (targets, pool)]
        shown = [[case for case in cases if case.masks.any()] for cases in narrowed]
        yield Task(dataset=name, objects=(wanted,), targets=shown[0], pool=shown[1], small=True)
