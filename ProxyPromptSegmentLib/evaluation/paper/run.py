"""Measures a protocol: each row learns, then segments the same targets; what is done is not done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.original.items import Item
from ProxyPromptSegmentLib.errors import CheckpointError, DeviceError, InputError, SupportError, UsageError
from ProxyPromptSegmentLib.evaluation.growing_file import GrowingFile
from ProxyPromptSegmentLib.evaluation.paper import protocol as paper
from ProxyPromptSegmentLib.evaluation.paper.chosen import chosen_rows, chosen_sets
from ProxyPromptSegmentLib.evaluation.paper.lessons import Budget, Lessons, patients_needed
from ProxyPromptSegmentLib.evaluation.paper.loading import Division, Loaded, load, what_is_there
from ProxyPromptSegmentLib.evaluation.statistics.measuring import TOLERANCE, scores_of
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.evaluation.systems.system import Kind, System
from ProxyPromptSegmentLib.progress import CancelToken

REASONS = (UsageError, CheckpointError, InputError, SupportError, DeviceError)  # for which a row has no figure
TRAINED, BY_SLICE = "trained", ", by slice"
SIDE_PARTS = 64  # of the longer side of an image, one such part is the tolerance of a table's surface Dice
SIDE_PART = f"1/{SIDE_PARTS} of the longer side of an image"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured of a protocol.

    Attributes:
        data: Folder of the data sets.
        part: ``test``, or ``validation`` to choose by.
        rows: Titles of rows, or names of systems; all by default.
        without: Those that are left out.
        sets: Data sets, by the paper's name or that of the stand-in; all by default.
        limit: Largest number of targets of each set, evenly spread.
        draws: Draws of supports; by default the protocol's.
        budget: What a training may take.
    """

    data: Path
    part: str = "test"
    rows: Sequence[str] = ()
    without: Sequence[str] = ()
    sets: Sequence[str] = ()
    limit: int | None = None
    draws: int | None = None
    budget: Budget = Budget()


@dataclass(frozen=True, kw_only=True)
class Making:
    """What a system may need to be made.

    Attributes:
        row: The row that asks for it.
        dataset: Name of the data set.
        others: The few cases of other data sets that are learned together with it; data set -> cases.
        division: How original sets are divided; a system that reads sets itself must divide them alike.
    """

    row: paper.Row
    dataset: str
    others: Mapping[str, tuple[Case, ...]] = field(default_factory=dict)
    division: Division = Division(patients=0)


class Maker(Protocol):
    """Makes the system of a row."""

    def __call__(self, making: Making) -> System:
        """Return the system.

        Raises:
            UsageError: If there is none of this name, or not for these data.
            CheckpointError: If its weights are not on this machine.
        """
        ...


@dataclass
class Outcome:
    """What a run gives in addition to its scores.

    Attributes:
        sets: Data sets, as they were found.
        missing: Title of a row -> why it has no scores, by data set.
        splits: What goes into the file of splits.
        empty: Data sets without targets in the part.
        absent: Data sets that are not there.
    """

    sets: list[Loaded] = field(default_factory=list)
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    splits: dict[str, Any] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


OnCase = Callable[[str, str, int, int], None]
KeepMasks = Callable[[paper.Row, Case, int, np.ndarray], None]


def score_file(path: Path | None, facts: Mapping[str, Any]) -> GrowingFile[Score]:
    """Open the scores of a protocol, or begin them; see `GrowingFile`."""
    return GrowingFile(path, dict(facts), lambda stored: Score(**stored))


def run_protocol(
    protocol: paper.Protocol,
    plan: Plan,
    make: Maker,
    file: GrowingFile[Score],
    on_case: OnCase | None = None,
    keep_masks: KeepMasks | None = None,
    cancel: CancelToken | None = None,
) -> Outcome:
    """Measure what the file does not have yet.

    Args:
        protocol: The protocol; one that shows the scores of another is measured in that one's name.
        plan: What of it.
        make: Makes the systems.
        file: Where each target is written when it is done.
        on_case: Called after each target with the row, the data set, the number of targets done and of all.
        keep_masks: Called with the masks of each target that is segmented, and the number of the target.
        cancel: Ends a training with `errors.CancelledError`.

    Raises:
        InputError: If none of the data sets is there.
    """
    outcome, rows = Outcome(), chosen_rows(protocol, plan.rows, plan.without)
    chosen = chosen_sets(protocol, plan.sets)
    here = [need for need in chosen if what_is_there(need, plan.data)]
    outcome.absent = [need.title for need in chosen if need not in here]
    if not here:
        titles = ", ".join(f"{need.title} ({need.stand_in or 'no stand-in'})" for need in protocol.sets)
        raise InputError(
            f"{plan.data} holds no data of {protocol.id}, which needs {titles}; give the folder of one of them."
        )
    most = max(patients_needed(few) for few in (protocol.few, *(row.few for row in protocol.rows if row.few)))
    division = Division(patients=most, whole=protocol.full, seed=plan.budget.seed)
    loaded = [load(need, plan.data, division) for need in here]
    pool = max((row.few.images for row in protocol.rows if row.few and row.few.support), default=0)
    lessons = {one.name: Lessons(one, plan.budget, pool) for one in loaded}
    for one in loaded:
        outcome.sets.append(one)
        outcome.splits[one.name] = _split(one, lessons[one.name], protocol, plan)
        targets = limited(one.parts[plan.part], plan.limit)
        if not targets:
            outcome.empty.append(one.title)
        for row in rows:
            making = Making(
                row=row,
                dataset=one.name,
                others=_together(row, one, loaded, lessons, protocol),
                division=division,
            )
            try:
                _run_row(protocol, plan, make, making, lessons[one.name], targets, file, on_case, keep_masks, cancel)
            except REASONS as error:
                outcome.missing.setdefault(row.title, {})[one.name] = str(error)
    return outcome


def _run_row(
    protocol: paper.Protocol,
    plan: Plan,
    make: Maker,
    making: Making,
    lessons: Lessons,
    targets: Sequence[Item],
    file: GrowingFile[Score],
    on_case: OnCase | None,
    keep_masks: KeepMasks | None,
    cancel: CancelToken | None,
) -> None:
    """Measure one row on one data set."""
    row, name = making.row, making.dataset
    system: System | None = None
    few = row.few or protocol.few
    for draw in range(plan.draws or protocol.draws):
        todo = [item for item in targets if not file.has((row.title, name, draw, item.name))]
        if not todo:
            continue
        system = system or make(making)
        if draw and system.kind in (Kind.TRUTH, Kind.FULL):
            break  # no draw changes what it knows
        began = time.process_time()
        fitted = system.fit(lessons.lesson(few, system.kind, draw), None, cancel)
        about = {"seconds": time.process_time() - began, "source": system.source}
        file.add((TRAINED, row.title, name, draw, todo[0].name), [], **about)
        for item in todo:
            case = item.read()
            began = time.process_time()
            masks = fitted.segment(case)
            spent = time.process_time() - began
            records = list(_scored(protocol, row, case, masks, draw, spent))
            file.add((row.title, name, draw, item.name), records, seconds=spent)
            if keep_masks and not draw:
                keep_masks(row, case, targets.index(item), masks)
            if on_case:
                on_case(row.title, name, targets.index(item) + 1, len(targets))


def _scored(
    protocol: paper.Protocol, row: paper.Row, case: Case, masks: np.ndarray, draw: int, seconds: float
) -> Iterator[Score]:
    """Score the objects of a target; of a single image those that it shows."""
    # In millimetres a part of an image's side in pixels means nothing.
    tolerance = max(case.images.shape[1:3]) / SIDE_PARTS if protocol.surface else TOLERANCE
    pixels = replace(case, spacing_mm=None) if protocol.surface else case
    shown = [len(case.images) > 1 or bool(case.masks[:, n].any()) for n in range(len(case.objects))]
    common: dict[str, Any] = {"system": row.title, "draw": draw}
    scores = scores_of(masks, pixels, table=protocol.id, seconds=seconds, tolerance=tolerance, **common)
    yield from (score for score, there in zip(scores, shown, strict=True) if there)
    if protocol.by_slice:
        for index in range(len(case.images)):
            one = replace(pixels, images=case.images[[index]], masks=case.masks[[index]], name=f"{case.name}:{index}")
            yield from scores_of(masks[[index]], one, table=protocol.id + BY_SLICE, tolerance=tolerance, **common)


def _together(
    row: paper.Row,
    one: Loaded,
    loaded: Sequence[Loaded],
    lessons: Mapping[str, Lessons],
    protocol: paper.Protocol,
) -> dict[str, tuple[Case, ...]]:
    """Return the few cases of the other sets that a row learns together with a set."""
    together = row.options.get("together", "set")
    if together == "set":
        return {}
    few = row.few or protocol.few
    return {
        other.name: lessons[other.name].lesson(few, Kind.FEW, 0).few
        for other in loaded
        if other is not one and (together == "all" or other.need.modality == one.need.modality)
    }


def _split(one: Loaded, lessons: Lessons, protocol: paper.Protocol, plan: Plan) -> dict[str, Any]:
    """Return what a reader needs to repeat the division of a data set."""
    draws = min(plan.draws or protocol.draws, 5) if protocol.few.frames else 1
    return {
        "data set": one.title,
        "seed": plan.budget.seed,
        **{part: sorted({item.patient for item in items}) for part, items in one.parts.items()},
        "few": lessons.names(protocol.few, draws),
    }


def limited(items: Sequence[Item], limit: int | None) -> list[Item]:
    """Return at most ``limit`` items, evenly spread."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[n] for n in np.linspace(0, len(items) - 1, limit).round().astype(int)]
