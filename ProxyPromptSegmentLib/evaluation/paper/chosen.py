"""Which rows and data sets of a protocol are measured, by the names that a user gives."""

from __future__ import annotations

from collections.abc import Sequence

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.paper.protocol import DataNeed, Protocol, Row


def chosen_rows(protocol: Protocol, names: Sequence[str], without: Sequence[str] = ()) -> tuple[Row, ...]:
    """Return the rows of a protocol that are run: all of them or those named, without those named.

    A name is that of a row, or of a system, which then stands for all of its rows.

    Raises:
        UsageError: If a name is none of them.
    """

    def titles_of(name: str) -> set[str]:
        wanted = name.casefold()
        rows = [row for row in protocol.run_rows if row.title.casefold() == wanted]
        rows = rows or [row for row in protocol.run_rows if row.system.casefold() == wanted]
        if not rows:
            there = "; ".join(row.title for row in protocol.run_rows)
            raise UsageError(f"{protocol.id} has no row '{name}' that is run here; choose some of: {there}")
        return {row.title for row in rows}

    wanted = {title for name in names for title in titles_of(name)} if names else {r.title for r in protocol.run_rows}
    wanted -= {title for name in without for title in titles_of(name)}
    return tuple(row for row in protocol.run_rows if row.title in wanted)


def chosen_sets(protocol: Protocol, names: Sequence[str]) -> tuple[DataNeed, ...]:
    """Return the data sets of a protocol that are measured, by the paper's name or that of the stand-in.

    Raises:
        UsageError: If a name is none of them.
    """
    known = {name.casefold() for name in names}
    there = {word.casefold(): need for need in protocol.sets for word in (need.title, need.stand_in) if word}
    for name in names:
        if name.casefold() not in there:
            titles = "; ".join(need.title for need in protocol.sets)
            raise UsageError(f"{protocol.id} has no data set '{name}'; choose some of: {titles}")
    wanted = [there[name] for name in known]
    return tuple(need for need in protocol.sets if not names or need in wanted)
