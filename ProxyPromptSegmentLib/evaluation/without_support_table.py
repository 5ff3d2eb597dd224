"""The table of a model that needs no support: one row for each class and data set, with intervals over patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ProxyPromptSegmentLib.evaluation.broad.baselines import MEAN_MASK
from ProxyPromptSegmentLib.evaluation.broad.records import Record
from ProxyPromptSegmentLib.evaluation.statistics.intervals import LEAST, with_interval
from ProxyPromptSegmentLib.evaluation.without_support import ABSENT, BOX, DICE, MODEL, PROXY, STRANGE, SURFACE
from ProxyPromptSegmentLib.imaging.metrics import Summary, summarize

DRAWS = 2000
ALL = "all of them"
HEAD = (
    "class",
    "set",
    "n",
    "model, Dice",
    "copied mean mask",
    "model minus mean mask",
    "proxy prompt, K = 4",
    "box around the truth",
    "model, NSD",
    "proxy prompt, NSD",
    "box, NSD",
)
ByPatient = dict[str, float]


def classes_table(records: Sequence[Record]) -> str:
    """Return the table as Markdown, and sentences on refusals and on the differences."""
    rows = list(dict.fromkeys((r.object, r.dataset) for r in records if r.measure == DICE))
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    above: set[str] = set()
    for name, dataset in sorted(rows, key=lambda row: _first(rows, row[0])):
        found = {
            (measure, method): scores_of(records, measure, method, name, dataset)
            for measure in (DICE, SURFACE)
            for method in (MODEL, MEAN_MASK, PROXY, BOX)
        }
        model = found[DICE, MODEL]
        gain = difference(model, found[DICE, MEAN_MASK])
        if gain is not None and gain.low > 0 and gain.count >= LEAST:
            above.add(name)
        cells = [
            name,
            dataset,
            str(len(model)),
            _cell(_summary(model)),
            _mean(found[DICE, MEAN_MASK]),
            _cell(gain, "+.3f"),
            _mean(found[DICE, PROXY]),
            _mean(found[DICE, BOX]),
            _mean(found[SURFACE, MODEL]),
            _mean(found[SURFACE, PROXY]),
            _mean(found[SURFACE, BOX]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    names = list(dict.fromkeys(name for name, _ in rows))
    lines += [
        "",
        f"{len(above)} of {len(names)} classes are above the mean mask with the whole interval on a set of "
        f"{LEAST} patients or more.",
    ]
    lines += _absences([r for r in records if r.measure == ABSENT])
    return "\n".join(lines) + "\n"


def _absences(records: Sequence[Record]) -> list[str]:
    """Return sentences and rows on images that cannot show what is asked for."""
    mine = [r for r in records if r.object == STRANGE]
    lines = []
    if mine:
        share = _cell(_summary(_by_patient(mine)))
        lines += ["", f"Classes that the image cannot show stay empty: {share} of those asked for."]
    others = [r for r in records if r.object != STRANGE]
    if others:
        methods = list(dict.fromkeys(r.method for r in others))
        lines += ["", "| images without the structure | n | " + " | ".join(f"{m}, left empty" for m in methods) + " |"]
        lines.append("|" + "---|" * (2 + len(methods)))
        for kind in [*dict.fromkeys(r.object for r in others), ALL]:
            rows = [r for r in others if kind in (r.object, ALL)]
            cells = [_summary(_by_patient(r for r in rows if r.method == method)) for method in methods]
            count = cells[0].count if cells[0] else 0
            lines.append(f"| {kind} | {count} | " + " | ".join(_cell(cell) for cell in cells) + " |")
    return lines


def scores_of(records: Iterable[Record], measure: str, method: str, name: str, dataset: str) -> ByPatient:
    """Return the score of each patient of one class, set and method."""
    return _by_patient(
        r for r in records if (r.measure, r.method, r.object, r.dataset) == (measure, method, name, dataset)
    )


def difference(one: ByPatient, other: ByPatient) -> Summary | None:
    """Return the paired difference over the patients that both have; None if there are none."""
    shared = sorted(one.keys() & other.keys())
    return _summary({patient: one[patient] - other[patient] for patient in shared})


def _by_patient(records: Iterable[Record]) -> ByPatient:
    grouped: dict[str, list[float]] = {}
    for record in records:
        grouped.setdefault(f"{record.dataset} {record.patient}", []).append(record.score)
    return {patient: float(np.mean(scores)) for patient, scores in grouped.items()}


def _summary(scores: ByPatient) -> Summary | None:
    return summarize(list(scores.values()), draws=DRAWS) if scores else None


def _first(rows: list[tuple[str, str]], name: str) -> int:
    return next(number for number, row in enumerate(rows) if row[0] == name)


def _mean(scores: ByPatient) -> str:
    return f"{np.mean(list(scores.values())):.3f}" if scores else "-"


def _cell(summary: Summary | None, form: str = ".3f") -> str:
    return "-" if summary is None else with_interval(summary, form)
