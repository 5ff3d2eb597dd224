"""The measurements of confidence as text: one line per data set, and the reliability of presence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ProxyPromptSegmentLib.evaluation.broad.confidence import calibration, gaps, judged, ranking
from ProxyPromptSegmentLib.evaluation.broad.records import Record, Scores


def confidence_rows(scores: Scores, supports: int) -> list[dict[str, Any]]:
    """Return one row per data set: ranking, missed slices and calibration, as JSON values; NaN is None."""
    context, _ = judged(scores.records, supports)
    rows = []
    for dataset in dict.fromkeys(record.dataset for record in context):
        mine = [record for record in context if record.dataset == dataset]
        rank, missing, (error, _) = ranking(mine), gaps(mine), calibration(mine)
        rows.append(
            {
                "dataset": dataset,
                "slices": rank.count,
                "spearman": _known(rank.correlation),
                "ci95": [_known(rank.low), _known(rank.high)],
                "spearman_drawn": _known(ranking(mine, drawn_only=True).correlation),
                "ends_missed": _known(missing.ends_missed),
                "gaps": missing.gaps,
                "missed": missing.missed,
                "shown": missing.shown,
                "ece": _known(error),
            }
        )
    return rows


def confidence_markdown(scores: Scores, supports: int) -> str:
    """Return the rows in Markdown, and below them the reliability of presence over all slices; empty without any."""
    rows = confidence_rows(scores, supports)
    if not rows:
        return ""
    head = (
        "set",
        "slices",
        "rank correlation with Dice",
        "the same where something is drawn",
        "first and last slices missed",
        "missed slices between drawn ones",
        "missed slices",
        "ECE of presence",
    )
    lines = [f"### Confidence: {scores.facts.get('model', 'model')}", "", _line(head), _line(["---"] * len(head))]
    for row in rows:
        correlation = f"{_text(row['spearman'])} [{_text(row['ci95'][0])}, {_text(row['ci95'][1])}]"
        missed = f"{row['missed']}/{row['shown']}"
        numbers = (row["slices"], correlation, _text(row["spearman_drawn"]), _text(row["ends_missed"]), row["gaps"])
        lines.append(_line([row["dataset"], *map(str, numbers), missed, _text(row["ece"])]))
    context, foreign = judged(scores.records, supports)
    return "\n".join([*lines, "", *_reliability([*context, *foreign])]) + "\n"


def _reliability(records: list[Record]) -> list[str]:
    """Return the lines of the reliability table."""
    error, bins = calibration(records)
    if not bins:
        return []
    lines = [
        f"Presence over all slices, those with supports of another organ included: ECE {error:.3f}.",
        "",
        "| presence | slices | mean presence | share that shows the object |",
        "|---|---|---|---|",
    ]
    lines += [f"| {b.low:.1f} to {b.high:.1f} | {b.count} | {b.presence:.3f} | {b.shown:.3f} |" for b in bins]
    return [*lines, ""]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
