"""Rows of means with intervals over patients, beside each other for several models, and one score for choosing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ProxyPromptSegmentLib.evaluation.broad import in_context, mask_followed
from ProxyPromptSegmentLib.evaluation.broad.mask_changes import WHOLE
from ProxyPromptSegmentLib.evaluation.broad.records import Record, Scores
from ProxyPromptSegmentLib.evaluation.broad.tasks import FIRST_SETS
from ProxyPromptSegmentLib.imaging.metrics import Summary, summarize

RESAMPLES = 2000
HALVES_AND_CORE = "mean of halves and core"
RowName = tuple[str, str, str, str, str, int]


@dataclass(frozen=True)
class Row:
    """One row: its name, and the score of each patient, the mean over draws and cases.

    Attributes:
        name: Measure, data set, object, condition, method and K.
        patients: patient -> score.
    """

    name: RowName
    patients: dict[str, float]

    def summary(self) -> Summary:
        """Return mean and 95 % interval over patients."""
        return summarize(list(self.patients.values()), draws=RESAMPLES)


def rows_of(scores: Scores) -> dict[RowName, Row]:
    """Return the rows of one model, in the order in which they were measured."""
    grouped: dict[RowName, dict[str, list[float]]] = {}
    for record in scores.records:
        grouped.setdefault(record.row, {}).setdefault(record.patient, []).append(record.score)
    rows = {name: Row(name, {p: float(np.mean(v)) for p, v in found.items()}) for name, found in grouped.items()}
    return {**rows, **_mean_of_changes(rows)}


def _mean_of_changes(rows: dict[RowName, Row]) -> dict[RowName, Row]:
    """Return, for each object whose mask was changed, the mean over all changes but the whole mask."""
    grouped: dict[RowName, list[Row]] = {}
    for (measure, dataset, name, condition, method, k), row in rows.items():
        if measure in (mask_followed.NAME, mask_followed.OWN) and condition != WHOLE:
            grouped.setdefault((measure, dataset, name, HALVES_AND_CORE, method, k), []).append(row)
    return {
        name: Row(name, {p: float(np.mean([row.patients[p] for row in found])) for p in found[0].patients})
        for name, found in grouped.items()
    }


def difference(one: Row, other: Row) -> Summary | None:
    """Return the mean of one row minus the other over the patients of both, with its interval; None without any."""
    shared = [patient for patient in one.patients if patient in other.patients]
    if not shared:
        return None
    return summarize([one.patients[p] - other.patients[p] for p in shared], draws=RESAMPLES)


def choice_score(scores: Scores, supports: int | None = None) -> dict[str, Any]:
    """Return the score by which weights are chosen: the mean Dice in context over sets, each the mean of its objects.

    Args:
        scores: The scores of one model.
        supports: ``K``; by default the largest up to 4 that was measured.

    Returns:
        ``choice``, ``first sets``, ``small sets``, ``mask followed`` and ``sets``: name -> mean Dice. What was not
        measured is None.
    """
    rows = [row for row in rows_of(scores).values() if row.name[0] == in_context.NAME and row.name[4] == "model"]
    measured = {row.name[5] for row in rows}
    k = supports or max([n for n in measured if n <= 4], default=max(measured, default=0))
    objects: dict[str, list[float]] = {}
    for row in rows:
        if row.name[5] == k:
            objects.setdefault(row.name[1], []).append(row.summary().mean)
    sets = {name: float(np.mean(found)) for name, found in objects.items()}
    first = {one.dataset for one in FIRST_SETS}
    changes = _mean_of_changes(rows_of(scores))
    followed = [row.summary().mean for name, row in changes.items() if name[0] == mask_followed.NAME]
    return {
        "supports": k,
        "choice": _mean(list(sets.values())),
        "first sets": _mean([value for name, value in sets.items() if name in first]),
        "small sets": _mean([value for name, value in sets.items() if name not in first]),
        "mask followed": _mean(followed),
        "sets": {name: round(value, 4) for name, value in sets.items()},
    }


def _mean(values: list[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def table_dict(scores: Scores) -> dict[str, Any]:
    """Return the rows of one model as JSON values."""
    names = ("measure", "dataset", "object", "condition", "method", "supports")
    rows = []
    for name, row in rows_of(scores).items():
        summary = row.summary()
        numbers = {"mean": round(summary.mean, 4), "ci95": [round(summary.low, 4), round(summary.high, 4)]}
        rows.append({**dict(zip(names, name, strict=True)), **numbers, "n": summary.count})
    return {"choice": choice_score(scores), "rows": rows}


def to_markdown(models: Sequence[Scores]) -> str:
    """Return the rows of one or several models in Markdown; the last model is compared with the others by patient."""
    tables = [rows_of(scores) for scores in models]
    titles = _titles(models)
    names = list(dict.fromkeys(name for table in tables for name in table))
    pairs = [f"{titles[-1]} minus {title}" for title in titles[:-1]]
    lines = []
    for measure in dict.fromkeys(name[0] for name in names):
        head = ["set", "object", "condition", "method", "K", "n", *titles, *pairs]
        lines += [f"### {measure[0].upper()}{measure[1:]}", "", _line(head), _line(["---"] * len(head))]
        for name in (one for one in names if one[0] == measure):
            found = [table.get(name) for table in tables]
            last = found[-1]
            counts = "/".join(dict.fromkeys(str(len(row.patients)) for row in found if row))
            cells = [_cell(row.summary() if row else None) for row in found]
            cells += [_cell(difference(last, row) if row and last else None, "+.3f") for row in found[:-1]]
            lines.append(_line([name[1], name[2], name[3], name[4], str(name[5]), counts, *cells]))
        lines.append("")
    choices = [(title, choice_score(scores)) for title, scores in zip(titles, models, strict=True)]
    lines += [
        f"{title}: mean over sets {_number(choice['choice'])} (first sets {_number(choice['first sets'])}, small sets "
        f"{_number(choice['small sets'])}), mask followed {_number(choice['mask followed'])}; K = {choice['supports']}."
        for title, choice in choices
    ]
    return "\n".join(lines) + "\n"


def _titles(models: Sequence[Scores]) -> list[str]:
    """Return a distinct title for each model."""
    titles = [str(scores.facts.get("model", "model")) for scores in models]
    marks = [str(scores.facts.get("sha256", ""))[:6] for scores in models]
    return [f"{t} {m}" if titles.count(t) > 1 else t for t, m in zip(titles, marks, strict=True)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cell(summary: Summary | None, form: str = ".3f") -> str:
    if summary is None:
        return "-"
    return f"{summary.mean:{form}} [{summary.low:{form}}, {summary.high:{form}}]"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def records_of(scores: Scores, measure: str, method: str = "model") -> list[Record]:
    """Return the records of one measurement and method."""
    return [record for record in scores.records if (record.measure, record.method) == (measure, method)]
