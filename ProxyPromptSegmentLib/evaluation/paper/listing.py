"""All protocols with what they need, and whether a folder has it."""

from __future__ import annotations

from pathlib import Path

from ProxyPromptSegmentLib.evaluation.paper.catalogue import protocols
from ProxyPromptSegmentLib.evaluation.paper.loading import what_is_there
from ProxyPromptSegmentLib.evaluation.paper.protocol import DataNeed, Few, Measure, Protocol

HEAD = ("id", "paper", "what", "data", "learns from", "rows run", "rows as published", "draws")


def listing(data: Path | None) -> str:
    """Return a table of all protocols.

    Args:
        data: Folder of the data sets, if one is given.
    """
    there = {}
    if data is not None:
        needs = {(need.title, need.stand_in): need for one in protocols() for need in one.sets}
        there = {key: what_is_there(need, data) for key, need in needs.items()}
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for one in protocols():
        sets = "; ".join(_said(need, there.get((need.title, need.stand_in))) for need in one.sets)
        shown = f"{one.title} (the scores of {one.same_as})" if one.same_as else one.title
        runs, published = len(one.run_rows), len(one.rows) - len(one.run_rows)
        if one.measure is not Measure.SYSTEMS:
            runs, published = len(one.rows), 0
        cells = (one.id, one.paper, shown, sets, learned(one), str(runs), str(published), str(one.draws))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def learned(protocol: Protocol) -> str:
    """Return in words what the systems of a protocol learn from."""
    if protocol.measure is not Measure.SYSTEMS:
        return "-"
    own = [row.few for row in protocol.rows if row.few is not None]
    if own:
        return f"{min(few.images for few in own)} to {max(few.images for few in own)} images"
    return _words(protocol.few)


def _words(few: Few) -> str:
    if few.frames:
        return f"{few.images} sweeps; {few.frames} support frame"
    if few.patients:
        return f"{few.slices or 'all'} slices of {few.patients} patients"
    return f"{few.images} images"


def _said(need: DataNeed, there: str | None) -> str:
    """Return a data set with whether it is there; None means that no folder was given."""
    stand_in = f" or {need.stand_in}" if need.stand_in else ""
    if there is None:
        return need.title + stand_in
    if not there:
        return f"{need.title}{stand_in}: missing"
    return need.title if there == "original" else f"{need.title}: stand-in {there}"
