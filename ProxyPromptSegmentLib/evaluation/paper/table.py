"""The table of a protocol: its rows with what was measured here, and the published figure beside each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.evaluation.growing_file import GrowingFile
from ProxyPromptSegmentLib.evaluation.paper.loading import Loaded
from ProxyPromptSegmentLib.evaluation.paper.protocol import AVERAGE, Protocol, Row, View
from ProxyPromptSegmentLib.evaluation.paper.run import BY_SLICE, TRAINED, Outcome
from ProxyPromptSegmentLib.evaluation.statistics.intervals import LEAST, ends, with_interval
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.evaluation.statistics.summaries import DICE, IOU, SURFACE, Line, lines_of

NOTHING = "-"
QUARTILES = (0, 25, 50, 75, 100)


@dataclass(frozen=True)
class Column:
    """An object of a data set.

    Attributes:
        dataset: Name of the data set that is there.
        object: The object.
        title: Its title.
        published: Keys under which rows have its published figure.
    """

    dataset: str
    object: str
    title: str
    published: tuple[str, ...]


def columns_of(protocol: Protocol, sets: Sequence[Loaded]) -> list[Column]:
    """Return the columns of the data sets that are there."""
    objects = [name for need in protocol.sets for name in need.objects]
    found = []
    for one in sets:
        own = one.need.objects if one.original or not one.need.stand_in_objects else one.need.stand_in_objects
        for name in own:
            keys = (f"{one.need.title}: {name}", *([name] if objects.count(name) == 1 else []))
            found.append(Column(one.name, name, f"{one.title}: {name}", keys))
    return found


def to_markdown(protocol: Protocol, outcome: Outcome, file: GrowingFile[Score], start: str) -> str:
    """Return the table of a protocol.

    Args:
        protocol: The protocol.
        outcome: The data sets, and what is missing.
        file: The scores.
        start: Words for the frozen start.
    """
    columns = columns_of(protocol, outcome.sets)
    name = protocol.same_as or protocol.id
    own = [score for score in file.records if score.table == name]
    lines = [f"## {protocol.paper}, {protocol.id}: {protocol.title}", ""]
    if protocol.view is View.SPREAD:
        lines += _spread(protocol, own, minutes_of(file))
    elif protocol.view is View.DRAWS:
        lines += _draws(protocol, own, columns)
    else:
        lines += _objects(protocol, own, columns, minutes_of(file))
    slices = [score for score in file.records if score.table == name + BY_SLICE]
    if slices and protocol.view is View.OBJECTS:
        lines += ["", "By slice, all slices of each volume:", "", *_objects(protocol, slices, columns, None)]
    return "\n".join([*lines, "", *_notes(protocol, outcome, start, sources_of(file))]) + "\n"


def minutes_of(file: GrowingFile[Score]) -> dict[str, float]:
    """Return row -> processor minutes of its trainings and masks."""
    spent: dict[str, float] = {}
    for unit, about in file.units():
        row = unit[1] if unit[0] == TRAINED else unit[0]
        spent[row] = spent.get(row, 0.0) + float(about.get("seconds", 0.0)) / 60
    return spent


def sources_of(file: GrowingFile[Score]) -> dict[str, str]:
    """Return row -> where its method is published, with what stands in for what."""
    return {unit[1]: str(about["source"]) for unit, about in file.units() if unit[0] == TRAINED and "source" in about}


def _objects(
    protocol: Protocol, scores: Sequence[Score], columns: Sequence[Column], minutes: Mapping[str, float] | None
) -> Iterator[str]:
    """Yield the lines of a table with a column for each object.

    A row that ended before the last target of a column, with an error, has its number of patients there and no average:
    it is not comparable with the others.
    """
    by_measure = {
        measure: {line.place: line for line in lines_of(scores, measure, all_objects=False)}
        for measure in (DICE, IOU, *([SURFACE] if protocol.surface else []))
    }
    head = ["row", "training images"]
    for column in columns:
        head += [f"{column.title}, Dice", *([f"{column.title}, NSD"] if protocol.surface else [])]
    head += ["average Dice", "published average", "average IoU", "SD of objects"]
    patients: dict[tuple[str, str], int] = {}  # of whom the row that has most of a column has a value
    for one in by_measure[DICE].values():
        place = one.dataset, one.object
        patients[place] = max(patients.get(place, 0), len(one.patients))
    several = protocol.draws > 1
    head += (["SD of draws", "published SD"] if several else []) + (["minutes"] if minutes is not None else [])
    yield _line(head)
    yield _line(["---"] * len(head))
    for row in protocol.rows:
        cells, means, overlaps = [row.title, row.images or NOTHING], [], []
        for column in columns:
            line = by_measure[DICE].get((column.dataset, column.object, row.title))
            published = next((row.published[key] for key in column.published if key in row.published), None)
            fewer = line is not None and len(line.patients) < patients[column.dataset, column.object]
            unsaid = line is not None and fewer and len(line.patients) >= LEAST
            cells.append(_cell(line, published) + (f", n = {len(line.patients)}" if line and unsaid else ""))
            if line is not None and line.patients and not fewer:
                means.append(float(np.mean(list(line.patients.values()))))
                overlap = by_measure[IOU][line.place]
                overlaps.append(float(np.mean(list(overlap.patients.values()))))
            if protocol.surface:
                cells.append(_cell(by_measure[SURFACE].get((column.dataset, column.object, row.title)), None))
        whole = len(means) == len(columns) and bool(columns)
        cells.append(f"{np.mean(means):.3f}" if whole else NOTHING)
        average = row.published.get(AVERAGE)
        if average is None and len(row.published) == 1 and len(columns) == 1:
            average = next(iter(row.published.values()))
        cells.append(NOTHING if average is None else f"{average / 100:.3f}")
        cells.append(f"{np.mean(overlaps):.3f}" if whole else NOTHING)
        cells.append(f"{np.std(means):.3f}" if whole and len(means) > 1 else NOTHING)
        if several:
            spread = [value for value in by_draw(scores, row.title).values()]
            cells.append(f"{np.std(spread, ddof=1):.3f}" if len(spread) > 1 else NOTHING)
            cells.append(NOTHING if row.spread is None else f"{row.spread / 100:.3f}")
        if minutes is not None:
            cells.append(f"{minutes[row.title]:.1f}" if row.title in minutes else NOTHING)
        yield _line(cells)


def by_draw(scores: Sequence[Score], row: str, measure: str = DICE) -> dict[int, float]:
    """Return draw -> mean over objects of the mean over patients."""
    found: dict[int, list[float]] = {}
    mine = [score for score in scores if score.system == row]
    for draw in sorted({score.draw for score in mine}):
        for line in lines_of([score for score in mine if score.draw == draw], measure, all_objects=False):
            if line.patients:
                found.setdefault(draw, []).append(float(np.mean(list(line.patients.values()))))
    return {draw: float(np.mean(values)) for draw, values in found.items()}


def _draws(protocol: Protocol, scores: Sequence[Score], columns: Sequence[Column]) -> Iterator[str]:
    """Yield the lines of a table with a column for each support frame: Dice and IoU."""
    numbers = [f"S{draw + 1}, Dice / IoU" for draw in range(protocol.draws)]
    head = ["row", "object", *numbers, "average Dice", "published average Dice", "max - min"]
    yield _line(head)
    yield _line(["---"] * len(head))
    for row in protocol.rows:
        for column in columns:
            mine = [s for s in scores if s.object == column.object and s.dataset == column.dataset]
            values, overlaps = by_draw(mine, row.title), by_draw(mine, row.title, IOU)
            if len(values) == 1:  # no support, so it is the same for every draw
                values = dict.fromkeys(range(protocol.draws), next(iter(values.values())))
                overlaps = dict.fromkeys(range(protocol.draws), next(iter(overlaps.values())))
            cells = [f"{values[n]:.3f} / {overlaps[n]:.3f}" if n in values else NOTHING for n in range(protocol.draws)]
            mean = f"{np.mean(list(values.values())):.3f}" if values else NOTHING
            width = f"{np.ptp(list(values.values())):.3f}" if values else NOTHING
            published = next((row.published[key] for key in column.published if key in row.published), None)
            said = NOTHING if published is None else f"{published / 100:.3f}"
            yield _line([row.title, column.title, *cells, mean, said, width])


def _spread(protocol: Protocol, scores: Sequence[Score], minutes: Mapping[str, float]) -> Iterator[str]:
    """Yield the lines of a table with the distribution of the average Dice over draws."""
    head = ["row", "draws", "mean", "SD", "lowest", "lower quartile", "median", "upper quartile", "highest", "minutes"]
    yield _line(head)
    yield _line(["---"] * len(head))
    for row in protocol.rows:
        values = list(by_draw(scores, row.title).values())
        spent = f"{minutes[row.title]:.1f}" if row.title in minutes else NOTHING
        if not values:
            yield _line([row.title, *[NOTHING] * (len(head) - 2), spent])
            continue
        sd = f"{np.std(values, ddof=1):.3f}" if len(values) > 1 else NOTHING
        quartiles = [f"{value:.3f}" for value in np.percentile(values, QUARTILES)]
        yield _line([row.title, str(len(values)), f"{np.mean(values):.3f}", sd, *quartiles, spent])


def _notes(protocol: Protocol, outcome: Outcome, start: str, sources: Mapping[str, str]) -> Iterator[str]:
    """Yield what a reader has to know."""
    yield (
        "Dice of all voxels of a case: mean over patients [95 % bootstrap interval]; in brackets behind it the "
        "published figure, on the paper's own data and weights. Draws and cases of a patient are averaged first."
    )
    stand_ins = [f"{one.name} for {one.need.title}" for one in outcome.sets if not (one.original or one.reduced)]
    if stand_ins:
        yield f"Stand-ins, on which figures cannot equal the published ones: {', '.join(stand_ins)}."
    reduced = [one.need.title for one in outcome.sets if one.reduced]
    if reduced:
        yield f"Fewer patients and pixels than the paper has: {', '.join(reduced)}."
    if outcome.absent:
        yield f"Not there, and not measured: {', '.join(outcome.absent)}."
    if outcome.empty:
        yield f"Without targets in this part: {', '.join(outcome.empty)}."
    yield start
    if protocol.note:
        yield protocol.note
    for row in protocol.rows:
        said = [part for part in (row.note, sources.get(row.title, "")) if part]
        if said:
            yield f"* {row.title}: {'. '.join(said)}."
    for row_title, sets in outcome.missing.items():
        for reason in dict.fromkeys(sets.values()):
            names = ", ".join(name for name, said in sets.items() if said == reason)
            yield f"* {row_title}, not run on {names}: {reason.rstrip('.')}."


def _cell(line: Line | None, published: float | None) -> str:
    """Return what was measured with its interval, and the published figure behind it."""
    said = "" if published is None else f" ({published / 100:.3f})"
    summary = None if line is None else line.summary()
    if summary is None:
        return (NOTHING + said) if said else NOTHING
    return with_interval(summary) + said


def rows_as_values(protocol: Protocol, scores: Sequence[Score], columns: Sequence[Column]) -> list[dict[str, object]]:
    """Return rows as JSON values: what was measured and what was published, by column."""
    lines = {line.place: line for line in lines_of(scores, DICE, all_objects=False)} if scores else {}

    def here(row: Row, column: Column) -> dict[str, object]:
        line = lines.get((column.dataset, column.object, row.title))
        summary = None if line is None else line.summary()
        said = next((row.published[key] / 100 for key in column.published if key in row.published), None)
        numbers = {} if summary is None else {"mean": round(summary.mean, 4), "n": summary.count}
        if summary is not None:
            numbers["ci95"] = ends(summary)  # type: ignore[assignment]
        return {**numbers, "published": said}

    return [
        {"row": row.title, "run": bool(row.system), **{column.title: here(row, column) for column in columns}}
        for row in protocol.rows
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
