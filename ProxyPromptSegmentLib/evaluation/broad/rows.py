"""Rows of the table: the scores of each patient, and rows that are computed from others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.evaluation.broad import in_context, mask_followed, memory, paper_prompt, refusal
from ProxyPromptSegmentLib.evaluation.broad.mask_changes import WHOLE
from ProxyPromptSegmentLib.evaluation.broad.records import Record, Scores
from ProxyPromptSegmentLib.evaluation.broad.tasks import FIRST_SETS
from ProxyPromptSegmentLib.imaging.metrics import Summary, summarize

RESAMPLES = 2000
HALVES_AND_CORE = "mean of halves and core"
SHARE = "tokens alone, share of the whole prompt"
ALL_SETS, SMALL_SETS, EACH_SET = "all sets", "small sets", "mean of each set"
EACH_OBJECT = "mean of all objects"
RowName = tuple[str, str, str, str, str, int]
Cell = tuple[str, str, int]  # patient, case, draw


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: Measure, data set, object, condition, method and K.
        scores: (patient, case, draw) -> score.
        whole: What the scores are divided by, for a row that is a share.
    """

    name: RowName
    scores: dict[Cell, float]
    whole: dict[Cell, float] | None = None

    def patients(self) -> dict[str, float]:
        """Return the score of each patient, the mean over his cases and draws."""
        return _by_patient(self.scores)

    def summary(self) -> Summary:
        """Return mean and 95 % interval over patients; of a share, the share of the means."""
        if self.whole is None:
            return summarize(list(self.patients().values()), draws=RESAMPLES)
        part, whole = self.patients(), _by_patient(self.whole)
        pairs = np.array([(part[patient], whole[patient]) for patient in part])
        drawn = np.random.default_rng(0).integers(len(pairs), size=(RESAMPLES, len(pairs)))
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = pairs[drawn].mean(axis=1)
            low, high = np.nanpercentile(shares[:, 0] / shares[:, 1], (2.5, 97.5))
            mean = float(pairs[:, 0].mean() / pairs[:, 1].mean())
        return Summary(mean, float("nan"), float(low), float(high), len(pairs), 0)


def rows_of(scores: Scores) -> dict[RowName, Row]:
    """Return the rows of one model, in the order in which they were measured, computed rows last."""
    grouped: dict[RowName, dict[Cell, list[float]]] = {}
    for record in scores.records:
        grouped.setdefault(record.row, {}).setdefault(_cell(record), []).append(record.score)
    rows = {name: Row(name, _means(found)) for name, found in grouped.items()}
    computed = (small_sets(rows), mean_of_changes(rows), _shares(rows), _refusals(scores.records), gains(rows))
    return rows | {name: row for found in computed for name, row in found.items()}


def difference(one: Row, other: Row) -> Summary | None:
    """Return the mean of one row minus the other over what both measured, with its interval; None without any."""
    shared = [cell for cell in one.scores if cell in other.scores]
    if not shared or one.whole is not None:
        return None
    gains = _by_patient({cell: one.scores[cell] - other.scores[cell] for cell in shared})
    return summarize(list(gains.values()), draws=RESAMPLES)


def small_sets(rows: dict[RowName, Row]) -> dict[RowName, Row]:
    """Return the mean in context over the small sets, each the mean of its objects; its interval is over sets."""
    first = {one.dataset for one in FIRST_SETS}
    grouped: dict[RowName, dict[Cell, list[float]]] = {}
    for (measure, dataset, _, condition, method, k), row in rows.items():
        if measure == in_context.NAME and dataset not in first:
            name = (measure, SMALL_SETS, EACH_SET, condition, method, k)
            mean = float(np.mean(list(row.patients().values())))
            grouped.setdefault(name, {}).setdefault((dataset, "", 0), []).append(mean)
    return {name: Row(name, _means(found)) for name, found in grouped.items()}


def mean_of_changes(rows: dict[RowName, Row]) -> dict[RowName, Row]:
    """Return, for each object whose mask was changed, the mean over all changes but the whole mask."""
    grouped: dict[RowName, list[Row]] = {}
    for (measure, dataset, name, condition, method, k), row in rows.items():
        if measure in (mask_followed.NAME, mask_followed.OWN) and condition != WHOLE:
            grouped.setdefault((measure, dataset, name, HALVES_AND_CORE, method, k), []).append(row)
    return {name: Row(name, _merge(found)) for name, found in grouped.items()}


def _shares(rows: dict[RowName, Row]) -> dict[RowName, Row]:
    """Return the share of the whole prompt's Dice that its tokens reach alone."""
    found = {}
    for (measure, dataset, name, condition, method, k), row in rows.items():
        whole = rows.get((measure, dataset, name, paper_prompt.WHOLE, method, k))
        if measure == paper_prompt.NAME and condition == paper_prompt.TOKENS and whole is not None:
            key = (measure, dataset, name, SHARE, method, k)
            found[key] = Row(key, row.scores, whole.scores)
    return found


def gains(rows: dict[RowName, Row]) -> dict[RowName, Row]:
    """Return what a memory adds in each clip: Dice with it minus Dice without, by object and over all sets."""
    grouped: dict[RowName, dict[Cell, list[float]]] = {}
    for (measure, dataset, name, condition, method, k), row in rows.items():
        without = rows.get((measure, dataset, name, condition, memory.WITHOUT, k))
        if measure != memory.NAME or method == memory.WITHOUT or without is None:
            continue
        for cell in sorted(row.scores.keys() & without.scores.keys()):
            gain = row.scores[cell] - without.scores[cell]
            own = (measure, dataset, name, condition, f"{method} minus {memory.WITHOUT}", k)
            everywhere = (measure, ALL_SETS, EACH_OBJECT, condition, own[4], k)
            grouped.setdefault(own, {}).setdefault(cell, []).append(gain)
            patient = (f"{dataset} {cell[0]}", cell[1], cell[2])
            grouped.setdefault(everywhere, {}).setdefault(patient, []).append(gain)
    return {name: Row(name, _means(found)) for name, found in grouped.items()}


def _refusals(records: Iterable[Record]) -> dict[RowName, Row]:
    """Return, over all sets, the share of targets on which nothing is drawn, and that of their slices."""
    grouped: dict[RowName, dict[Cell, list[float]]] = {}
    for record in records:
        if record.measure == refusal.NAME:
            cell = (f"{record.dataset} {record.patient}", record.case, record.draw)
            empty = 1 - float(np.mean(record.slices["drawn"]))
            for unit, score in (("target", record.score), ("slice", empty)):
                name = (record.measure, ALL_SETS, unit, record.condition, record.method, record.supports)
                grouped.setdefault(name, {}).setdefault(cell, []).append(score)
    return {name: Row(name, _means(found)) for name, found in grouped.items()}


def _cell(record: Record) -> Cell:
    return record.patient, record.case, record.draw


def _means(found: dict[Cell, list[float]]) -> dict[Cell, float]:
    return {cell: float(np.mean(values)) for cell, values in found.items()}


def _merge(rows: list[Row]) -> dict[Cell, float]:
    """Return the mean of rows over the cells that all of them have."""
    shared = [cell for cell in rows[0].scores if all(cell in row.scores for row in rows)]
    return {cell: float(np.mean([row.scores[cell] for row in rows])) for cell in shared}


def _by_patient(scores: dict[Cell, float]) -> dict[str, float]:
    grouped: dict[str, list[float]] = {}
    for (patient, _, _), score in scores.items():
        grouped.setdefault(patient, []).append(score)
    return {patient: float(np.mean(found)) for patient, found in grouped.items()}
