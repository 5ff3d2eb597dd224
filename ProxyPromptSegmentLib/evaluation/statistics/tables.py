"""Tables of scores as Markdown, CSV and JSON: each system's summaries, and how one of them compares with the others.

Usage::

    lines = table_of(scores, reference="proxy prompt")      # scores: any list of `Score` of one table
    text = to_markdown(lines)
    text = to_csv(lines)
    values = to_dict(lines)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ProxyPromptSegmentLib.evaluation.statistics.intervals import brackets, ends, with_interval
from ProxyPromptSegmentLib.evaluation.statistics.measuring import TOLERANCE
from ProxyPromptSegmentLib.evaluation.statistics.paired import Comparison, Paired, compare
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.evaluation.statistics.summaries import DICE, HD95, IOU, MEASURES, SECONDS, SURFACE, lines_of
from ProxyPromptSegmentLib.imaging.metrics import Summary
from ProxyPromptSegmentLib.reports.results_table import Table, csv_text

WORDS = {DICE: "Dice", IOU: "IoU", HD95: "HD95", SURFACE: "surface Dice", SECONDS: "seconds"}

_COLUMNS = (
    *("set", "object", "system", "measure", "unit", "n", "undefined", "mean", "sd", "low95", "high95"),
    *("reference_minus_this", "difference_low95", "difference_high95", "p", "p_holm"),
)


@dataclass(frozen=True)
class TableRow:
    """One system on one object.

    Attributes:
        dataset: The data set.
        object: The object, or `summaries.ALL_OBJECTS`.
        system: The system.
        summaries: Measure -> summary over patients; None where nothing is defined.
        unit: Unit of HD95 and of the tolerance of the surface Dice.
        comparison: The reference's Dice minus the system's; None for the reference, or without one.
    """

    dataset: str
    object: str
    system: str
    summaries: dict[str, Summary | None]
    unit: str
    comparison: Comparison | None = None


def table_of(
    scores: Iterable[Score], reference: str | None = None, measures: Sequence[str] = (*MEASURES, SECONDS)
) -> list[TableRow]:
    """Summarise scores by data set, object and system, in the order in which these first came.

    Args:
        scores: Scores of one table.
        reference: Name of the system whose Dice is compared with that of each other system, with Holm's correction for
            all of these comparisons; None for no comparison.
        measures: What is summarised; the first one decides which rows there are.

    Raises:
        InputError: See `summaries.lines_of`.
    """
    scores = list(scores)
    by_measure = {measure: {line.place: line for line in lines_of(scores, measure)} for measure in measures}
    compared = compare(lines_of(scores, DICE), reference) if reference is not None else []
    beside = {(one.dataset, one.object, one.system): one for one in compared}
    units = {score.dataset: score.unit for score in scores}
    return [
        TableRow(
            *place,
            {measure: lines[place].summary() for measure, lines in by_measure.items()},
            units[place[0]],
            beside.get(place),
        )
        for place in by_measure[measures[0]]
    ]


def to_markdown(rows: Sequence[TableRow], reference: str | None = None) -> str:
    """Return the table in Markdown, with a sentence that says what its numbers are."""
    measures = list(rows[0].summaries) if rows else []
    compared = any(row.comparison for row in rows)
    head = ["set", "object", "system", "n", *(_title(measure, rows) for measure in measures)]
    if compared:
        head += [f"Dice of {reference or 'the reference'} minus this", "p (Holm)"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        cells = [row.dataset, row.object, row.system, counted(row)]
        cells += [summary_text(row.summaries[measure], measure) for measure in measures]
        if compared:
            cells += comparison_texts(row.comparison)
        lines.append(_line(cells))
    return "\n".join([*lines, "", explained(rows)]) + "\n"


def to_csv(rows: Sequence[TableRow]) -> str:
    """Return the table as CSV with a header: a row for each data set, object, system and measure."""
    cells: list[list[Any]] = []
    for row in rows:
        for measure, summary in row.summaries.items():
            unit = row.unit if measure == HD95 else "s" if measure == SECONDS else None
            numbers: tuple[Any, ...] = (0, *[None] * 5)
            if summary is not None:
                means = (summary.mean, summary.sd, *_known_ends(summary))
                numbers = (summary.count, summary.missing, *map(_finite, means))
            found = row.comparison if measure == DICE else None
            beside: tuple[Any, ...] = (None,) * 5
            if found is not None:
                pair = found.paired
                beside = tuple(_finite(value) for value in (pair.mean, *_known_ends(pair), pair.p, found.holm))
            cells.append([row.dataset, row.object, row.system, measure, unit, *numbers, *beside])
    return csv_text(Table(_COLUMNS, ("",) * len(_COLUMNS), cells))


def to_dict(rows: Sequence[TableRow]) -> list[dict[str, Any]]:
    """Return the table as JSON values; what is not a number is None."""
    found = []
    for row in rows:
        values: dict[str, Any] = {"set": row.dataset, "object": row.object, "system": row.system, "unit": row.unit}
        for measure, summary in row.summaries.items():
            values[measure] = None if summary is None else _plain(summary)
        if row.comparison is not None:
            values["reference_minus_this"] = {**_plain(row.comparison.paired), "holm": row.comparison.holm}
        found.append(values)
    return found


def explained(rows: Sequence[TableRow], tolerance: str = "") -> str:
    """Return what the numbers of a table are, as a paragraph.

    Args:
        rows: The table.
        tolerance: Words for the tolerance of the surface Dice; by default `TOLERANCE` in the table's units.
    """
    units = " or ".join(sorted({row.unit for row in rows})) or "px"
    tolerance = tolerance or f"{TOLERANCE:g} {units}"
    return (
        "Mean ± population SD [95 % bootstrap interval of the mean] over n patients; draws and cases of a patient are "
        "averaged first. HD95: the larger 95th percentile of the distances between both borders, of the patients for "
        f"whom it is defined. Surface Dice: tolerance {tolerance}. p: Wilcoxon's signed ranks over patients, "
        "two-sided; with Holm's correction for all comparisons of the table."
    )


def counted(row: TableRow) -> str:
    """Return the number of patients of a row."""
    return str(max((one.count + one.missing for one in row.summaries.values() if one is not None), default=0))


def summary_text(summary: Summary | None, measure: str = DICE) -> str:
    """Return a summary in one cell, with three digits for shares and one for distances and seconds."""
    if summary is None:
        return "-"
    form = ".1f" if measure in (HD95, SECONDS) else ".3f"
    of = f" (of {summary.count})" if summary.missing else ""
    sd = f" ± {summary.sd:{form}}" if summary.count > 1 else ""
    return f"{summary.mean:{form}}{sd} {brackets(summary, form)}{of}"


def comparison_texts(found: Comparison | None) -> tuple[str, str]:
    """Return the difference with its interval, and the corrected p, in two cells."""
    if found is None:
        return "", ""
    pair = found.paired
    return with_interval(pair, "+.3f"), p_text(found.holm)


def p_text(p: float) -> str:
    """Return a p value with two significant digits at most."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _title(measure: str, rows: Sequence[TableRow]) -> str:
    unit = ", ".join(sorted({row.unit for row in rows})) if measure == HD95 else ""
    return f"{WORDS[measure]} [{unit}]" if unit else WORDS[measure]


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _known_ends(found: Summary | Paired) -> tuple[float, float]:
    return (found.low, found.high) if ends(found) else (math.nan, math.nan)


def _plain(found: Summary | Paired) -> dict[str, Any]:
    low, high = _known_ends(found)
    values = asdict(replace(found, low=low, high=high))
    return {key: _finite(value) if isinstance(value, float) else value for key, value in values.items()}


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
