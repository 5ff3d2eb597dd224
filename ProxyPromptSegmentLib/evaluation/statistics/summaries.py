"""What scores say: the value of each patient, their mean with its spread, and how sure the mean is.

Slices, cases and draws of one patient are not independent of each other, so they become one number first: the mean over
the draws of a case, then the mean over the patient's cases. Everything after that counts patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.imaging.metrics import Summary, summarize

DICE, IOU, HD95, SURFACE, SECONDS = "dice", "iou", "hd95", "surface", "seconds"
MEASURES = (DICE, IOU, HD95, SURFACE)
ALL_OBJECTS = "mean of all objects"
RESAMPLES = 10_000
Place = tuple[str, str, str]  # data set, object, system


@dataclass(frozen=True)
class Line:
    """What a system reached on one object of one data set, by one measure.

    Attributes:
        dataset: The data set.
        object: The object, or `ALL_OBJECTS`.
        system: The system.
        measure: One of `MEASURES`, or ``"seconds"``.
        patients: Value of each patient; those without a defined one are missing.
        undefined: Number of patients of whom no score is defined.
        unit: Unit of the values; "" if they have none.
    """

    dataset: str
    object: str
    system: str
    measure: str
    patients: dict[str, float]
    undefined: int = 0
    unit: str = ""

    @property
    def place(self) -> Place:
        """Where the line stands in a table."""
        return self.dataset, self.object, self.system

    def summary(self, seed: int = 0) -> Summary | None:
        """Return mean, population SD and 95 % bootstrap interval over patients; None if nothing is defined."""
        if not self.patients:
            return None
        found = summarize([self.patients[name] for name in sorted(self.patients)], seed, RESAMPLES)
        return Summary(found.mean, found.sd, found.low, found.high, found.count, self.undefined)


def lines_of(scores: Iterable[Score], measure: str = DICE, all_objects: bool = True) -> list[Line]:
    """Return the lines of a table, in the order in which data sets, objects and systems first came.

    Args:
        scores: Scores of one table.
        measure: One of `MEASURES`, or ``"seconds"``.
        all_objects: Whether each data set with several objects also gets their mean, over the patients of whom every
            object has a value.

    Raises:
        InputError: If the measure is unknown, or distances in mm and px would be averaged.
    """
    if measure not in (*MEASURES, SECONDS):
        raise InputError(f"the measure is '{measure}'; choose one of {', '.join((*MEASURES, SECONDS))}.")
    scores = list(scores)
    grouped: dict[Place, list[Score]] = {}
    for score in scores:
        grouped.setdefault((score.dataset, score.object, score.system), []).append(score)
    lines = [_line(place, measure, found) for place, found in grouped.items()]
    if all_objects:
        lines += _over_objects(lines, measure)
    orders = [list(dict.fromkeys(line.place[field] for line in lines)) for field in range(3)]
    return sorted(lines, key=lambda line: [order.index(part) for order, part in zip(orders, line.place, strict=True)])


def by_patient(scores: Iterable[Score], measure: str = DICE) -> dict[str, float]:
    """Return the value of each patient: the mean over the cases, each the mean over its draws; undefined ones left out.

    Args:
        scores: Scores of one system on one object.
        measure: One of `MEASURES`, or ``"seconds"``.
    """
    cases: dict[tuple[str, str], list[float]] = {}
    for score in scores:
        value = getattr(score, measure)
        if value is not None:
            cases.setdefault((score.patient, score.case), []).append(float(value))
    patients: dict[str, list[float]] = {}
    for (patient, _), found in cases.items():
        patients.setdefault(patient, []).append(float(np.mean(found)))
    return {patient: float(np.mean(found)) for patient, found in patients.items()}


def _line(place: Place, measure: str, scores: Sequence[Score]) -> Line:
    """Return one line of a table.

    Raises:
        InputError: If its distances have two units.
    """
    units = sorted({score.unit for score in scores}) if measure in (HD95, SURFACE) else []
    if len(units) > 1:
        raise InputError(
            f"distances of {place[2]} on {place[0]} are partly in {units[0]} and partly in {units[1]}; measure all "
            "cases in one unit, or name them as two data sets."
        )
    found = by_patient(scores, measure)
    everybody = {score.patient for score in scores}
    unit = "s" if measure == SECONDS else units[0] if measure == HD95 else ""
    return Line(*place, measure, found, len(everybody) - len(found), unit)


def _over_objects(lines: Sequence[Line], measure: str) -> list[Line]:
    """Return the mean over the objects of each data set that has several, for each system."""
    grouped: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        grouped.setdefault((line.dataset, line.system), []).append(line)
    several = {line.dataset for line in lines if len({one.object for one in lines if one.dataset == line.dataset}) > 1}
    found = []
    for (dataset, system), mine in grouped.items():
        if dataset in several:
            everybody = set().union(*(line.patients for line in mine))
            shared = [name for name in mine[0].patients if all(name in line.patients for line in mine)]
            values = {name: float(np.mean([line.patients[name] for line in mine])) for name in shared}
            missing = len(everybody) - len(shared)
            found.append(Line(dataset, ALL_OBJECTS, system, measure, values, missing, mine[0].unit))
    return found
