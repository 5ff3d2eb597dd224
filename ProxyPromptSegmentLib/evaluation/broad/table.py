"""The table of one or several models side by side, and the score by which weights are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ProxyPromptSegmentLib.evaluation.broad import in_context, mask_followed
from ProxyPromptSegmentLib.evaluation.broad.confidence_table import confidence_markdown, confidence_rows
from ProxyPromptSegmentLib.evaluation.broad.records import Scores
from ProxyPromptSegmentLib.evaluation.broad.rows import HALVES_AND_CORE, SMALL_SETS, RowName, difference, rows_of
from ProxyPromptSegmentLib.evaluation.broad.tasks import FIRST_SETS
from ProxyPromptSegmentLib.evaluation.statistics.intervals import ends, with_interval
from ProxyPromptSegmentLib.imaging.metrics import Summary

NAMES = ("measure", "dataset", "object", "condition", "method", "supports")
USUAL = 4


def choice_score(scores: Scores, supports: int | None = None) -> dict[str, Any]:
    """Return the score by which weights are chosen: the mean Dice in context over sets, each the mean of its objects.

    Args:
        scores: The scores of one model.
        supports: ``K``; by default the largest up to 4 that was measured.

    Returns:
        ``choice``, ``first sets``, ``small sets``, ``mask followed`` and ``sets``: name -> mean Dice. What was not
        measured is None.
    """
    rows = rows_of(scores)
    context = [
        row
        for row in rows.values()
        if (row.name[0], row.name[4]) == (in_context.NAME, "model") and row.name[1] != SMALL_SETS
    ]
    measured = {row.name[5] for row in context}
    k = supports or max([n for n in measured if n <= USUAL], default=max(measured, default=0))
    objects: dict[str, list[float]] = {}
    for row in context:
        if row.name[5] == k:
            objects.setdefault(row.name[1], []).append(row.summary().mean)
    sets = {name: float(np.mean(found)) for name, found in objects.items()}
    first = {one.dataset for one in FIRST_SETS}
    followed = [
        row.summary().mean for name, row in rows.items() if (name[0], name[3]) == (mask_followed.NAME, HALVES_AND_CORE)
    ]
    return {
        "supports": k,
        "choice": _mean(list(sets.values())),
        "first sets": _mean([value for name, value in sets.items() if name in first]),
        "small sets": _mean([value for name, value in sets.items() if name not in first]),
        "mask followed": _mean(followed),
        "sets": {name: round(value, 4) for name, value in sets.items()},
    }


def table_dict(scores: Scores) -> dict[str, Any]:
    """Return the rows of one model as JSON values."""
    rows = []
    for name, row in rows_of(scores).items():
        summary = row.summary()
        numbers = {"mean": round(summary.mean, 4), "ci95": ends(summary)}
        rows.append({**dict(zip(NAMES, name, strict=True)), **numbers, "n": summary.count})
    choice = choice_score(scores)
    return {"choice": choice, "rows": rows, "confidence": confidence_rows(scores, choice["supports"])}


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
        for name in _in_order([one for one in names if one[0] == measure]):
            found = [table.get(name) for table in tables]
            last = found[-1]
            counts = "/".join(dict.fromkeys(str(row.summary().count) for row in found if row))
            cells = [_cell(row.summary() if row else None) for row in found]
            cells += [_cell(difference(last, row) if row and last else None, "+.3f") for row in found[:-1]]
            lines.append(_line([name[1], name[2], name[3], name[4], str(name[5]), counts, *cells]))
        lines.append("")
    choices = [choice_score(scores) for scores in models]
    for scores, choice in zip(models, choices, strict=True):
        lines += confidence_markdown(scores, choice["supports"]).splitlines()
    lines += [
        f"{title}: mean over sets {_number(choice['choice'])} (first sets {_number(choice['first sets'])}, small sets "
        f"{_number(choice['small sets'])}), mask followed {_number(choice['mask followed'])}; K = {choice['supports']}."
        for title, choice in zip(titles, choices, strict=True)
    ]
    return "\n".join(lines) + "\n"


def _in_order(names: list[RowName]) -> list[RowName]:
    """Return the rows of one measure by set, object, condition, number of supports and method, as they came first."""
    places = [list(dict.fromkeys(name[field] for name in names)) for field in range(len(NAMES))]

    def key(name: RowName) -> tuple[int, ...]:
        _, dataset, wanted, condition, method, _ = (places[field].index(name[field]) for field in range(len(NAMES)))
        return dataset, wanted, condition, name[5], method

    return sorted(names, key=key)


def _titles(models: Sequence[Scores]) -> list[str]:
    """Return a distinct title for each model."""
    titles = [str(scores.facts.get("model", "model")) for scores in models]
    marks = [str(scores.facts.get("sha256", ""))[:6] for scores in models]
    return [f"{t} {m}" if titles.count(t) > 1 else t for t, m in zip(titles, marks, strict=True)]


def _mean(values: list[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cell(summary: Summary | None, form: str = ".3f") -> str:
    return "-" if summary is None else with_interval(summary, form)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
