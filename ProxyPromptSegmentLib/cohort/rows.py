"""What became of each study, in the order in which a human should look at them, and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from ProxyPromptSegmentLib.cohort.studies import Study, shown
from ProxyPromptSegmentLib.reports.results_table import Table


class State(IntEnum):
    """What became of a study; the lower, the sooner to be looked at."""

    FAILED = 0
    EMPTY = 1
    INCOMPLETE = 2
    DONE = 3
    CORRECTED = 4
    OPEN = 5
    SUPPORT = 6

    @property
    def is_done(self) -> bool:
        """Whether it has a result."""
        return self in (State.EMPTY, State.INCOMPLETE, State.DONE, State.CORRECTED)


WORDS = {
    State.FAILED: "failed",
    State.EMPTY: "nothing found",
    State.INCOMPLETE: "not everything found",
    State.DONE: "done",
    State.CORRECTED: "corrected by hand",
    State.OPEN: "not done yet",
    State.SUPPORT: "is a support",
}


@dataclass(frozen=True)
class Row:
    """A study and what became of it.

    Attributes:
        study: The study.
        state: What became of it.
        reason: Why it failed, or is not segmented.
        facts: Its record if it is done, see `facts_of`.
    """

    study: Study
    state: State
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def confidence(self) -> float | None:
        """The lowest mean confidence of the structures that were found; None if none was."""
        return min((v for one in self.objects if (v := one.get("mean_confidence")) is not None), default=None)

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What was found of each structure."""
        found = self.facts.get("objects", [])
        return found if isinstance(found, list) else []


def facts_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record keeps of a report: the structures, what to review, notes, time and device."""
    objects = []
    for one in report["objects"]:
        least = one["lowest_confidence"][0] if one["lowest_confidence"] else {}
        objects.append(
            {
                "name": one["name"],
                "volume_ml": one["volume_ml"],
                "voxels": one["voxels"],
                "slices": len(one["slices_found"]),
                "mean_confidence": one["mean_confidence"],
                "lowest_confidence": least.get("confidence"),
                "lowest_confidence_slice": least.get("slice"),
            }
        )
    return {
        "model_sha256": report["model"]["sha256"],
        "device": report["device"],
        "seconds": report["seconds"]["total"],
        "objects": objects,
        "review": report["review"],
        "notes": report["notes"],
    }


def done_row(study: Study, record: Mapping[str, Any]) -> Row:
    """Return the row of a study with a record."""
    row = Row(study, State.DONE, "", record)
    if record.get("corrected"):
        return Row(study, State.CORRECTED, "", record)
    found = [bool(one.get("voxels")) for one in row.objects]
    state = State.DONE if all(found) else State.INCOMPLETE if any(found) else State.EMPTY
    return Row(study, state, "", record)


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Return rows in the order to look at: failed, empty, incomplete, the least sure first, then corrected ones."""
    return sorted(rows, key=lambda row: (row.state, 1.0 if row.confidence is None else row.confidence, row.study.name))


def table_of(rows: Iterable[Row]) -> Table:
    """Return a table with a row for each study and structure."""
    columns = (
        ("study", "path", "state", "structure", "volume", "voxels", "slices", "mean confidence", "lowest confidence")
        + ("on slice", "to review", "reason", "result", "report", "seconds", "device", "program", "written")
    )  # fmt: skip
    units = tuple({"volume": "ml", "seconds": "s"}.get(name, "") for name in columns)
    lines: list[list[Any]] = []
    for row in rows:
        about = [shown(row.study.name), shown(str(row.study.path)), WORDS[row.state]]
        facts = row.facts
        review = facts.get("review", [])
        ends = [facts.get(key) for key in ("result", "report", "seconds", "device", "program", "created")]
        for one in row.objects or [{}]:
            name = one.get("name")
            count = sum(doubt.get("object") == name for doubt in review) if name else None
            keys = ("volume_ml", "voxels", "slices", "mean_confidence", "lowest_confidence", "lowest_confidence_slice")
            lines.append([*about, name, *(one.get(key) for key in keys), count, shown(row.reason), *ends])
    return Table(columns, units, lines)
