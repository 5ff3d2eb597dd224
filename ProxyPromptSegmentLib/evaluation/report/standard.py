"""The chapters that every report of scores has: tables, spread over patients, and confidence."""

from __future__ import annotations

from collections.abc import Sequence

from ProxyPromptSegmentLib.evaluation.report.box_plot import box_plot
from ProxyPromptSegmentLib.evaluation.report.confidence_plot import confidence_plot
from ProxyPromptSegmentLib.evaluation.report.page import Chapter, Chart, Grid, Part
from ProxyPromptSegmentLib.evaluation.report.ridges import ridge_plot
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.evaluation.statistics.summaries import DICE, HD95, MEASURES, SECONDS, lines_of
from ProxyPromptSegmentLib.evaluation.statistics.tables import (
    WORDS,
    TableRow,
    comparison_texts,
    counted,
    explained,
    summary_text,
    table_of,
)

Systems = dict[str, dict[str, float]]


def chapters_of(scores: Sequence[Score], reference: str | None = None, tolerance: str = "") -> list[Chapter]:
    """Return the chapters of a table of scores.

    Args:
        scores: Scores of one table.
        reference: The system that the others are compared with; None for no comparison.
        tolerance: Words for the tolerance of the surface Dice, where it is not the usual one.
    """
    rows = table_of(scores, reference)
    return [
        Chapter("Scores", [grid_of(rows, reference, tolerance)]),
        Chapter("Spread over patients", spread_parts(scores)),
        Chapter("Confidence", confidence_parts(scores)),
    ]


def grid_of(rows: Sequence[TableRow], reference: str | None = None, tolerance: str = "") -> Grid:
    """Return a table of a report; the best mean Dice of each object is set in bold."""
    measures = [measure for measure in (*MEASURES, SECONDS) if rows and measure in rows[0].summaries]
    units = ", ".join(sorted({row.unit for row in rows}))
    titles = [f"{WORDS[measure]} [{units}]" if measure == HD95 else WORDS[measure] for measure in measures]
    compared = any(row.comparison for row in rows)
    more = (f"Dice of {reference or 'the reference'} minus this", "p (Holm)") if compared else ()
    sets = len({row.dataset for row in rows}) > 1
    cells = [
        [
            *([row.dataset] if sets else []),
            row.object,
            row.system,
            counted(row),
            *(_on_two_lines(summary_text(row.summaries[measure], measure)) for measure in measures),
            *(map(_on_two_lines, comparison_texts(row.comparison)) if compared else ()),
        ]
        for row in rows
    ]
    head = (*(("set",) if sets else ()), "object", "system", "n", *titles, *more)
    caption = f"{explained(rows, tolerance)} {_BOLD}"
    return Grid(head, cells, 3 if sets else 2, _best(rows), caption)


def spread_parts(scores: Sequence[Score]) -> list[Part]:
    """Return box plots and ridge plots of the Dice of each object, and box plots of HD95 where it is defined."""
    parts: list[Part] = []
    for measure in (DICE, HD95):
        grouped: dict[tuple[str, str], Systems] = {}
        for line in lines_of(scores, measure):
            grouped.setdefault((line.dataset, line.object), {})[line.system] = line.patients
        units = {score.dataset: score.unit for score in scores}
        for (dataset, name), systems in grouped.items():
            what = f"{dataset}, {name}: {WORDS[measure]}" + (f" [{units[dataset]}]" if measure == HD95 else "")
            parts.append(Chart(box_plot(systems, what, measure == DICE), _BOX))
            if measure == DICE:
                parts.append(Chart(ridge_plot(systems, what), _RIDGE))
    return parts


def confidence_parts(scores: Sequence[Score]) -> list[Part]:
    """Return the chart of confidence against Dice; nothing where no system states a confidence."""
    systems: dict[str, list[tuple[float, float]]] = {}
    for score in scores:
        mine = systems.setdefault(score.system, [])
        if score.confidence is not None:
            mine.append((score.confidence, score.dice))
    return [Chart(confidence_plot(systems), _CONFIDENCE)]


_BOLD = "Bold: the highest mean Dice of an object."
_BOX = (
    "A dot is a patient, the diamond the mean. From 5 patients on, the box spans the quartiles with the median, and "
    "the whiskers reach to the last patients within 1.5 times its length."
)
_RIDGE = "Distribution of the patients' values, by Gaussian kernels and drawn equally high; from 8 patients on."
_CONFIDENCE = (
    "A dot is a mask of one object of one case. On the diagonal, the confidence is the Dice; below it, the system is "
    "too sure of itself. Lines connect the means of fifths of the masks."
)


def _on_two_lines(cell: str) -> str:
    """Return a cell with its interval below the mean."""
    return cell.replace(" [", "\n[", 1)


def _best(rows: Sequence[TableRow]) -> frozenset[int]:
    """Return the rows with the highest mean Dice among the systems of their object."""
    means: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for number, row in enumerate(rows):
        summary = row.summaries[DICE]
        if summary is not None:
            means.setdefault((row.dataset, row.object), []).append((summary.mean, number))
    return frozenset(
        number for found in means.values() for mean, number in found if mean == max(one[0] for one in found)
    )
