"""The scores of single cases, in a file that grows while they are measured, so that an interrupted run resumes.

The file has a JSON value per line: first the facts that every score in it shares, then one line for each unit of work.
A line that was cut off is measured again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import InputError, OutputError

SliceScores = dict[str, list]
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """The score of one object of one target.

    Attributes:
        measure: Name of the measurement.
        dataset: The target's data set.
        object: Name of the object.
        condition: What was changed; empty if nothing.
        method: The model, or the baseline.
        supports: ``K``.
        draw: Number of the draw of supports.
        case: The target.
        patient: The unit over which intervals are computed.
        score: Dice, or what the measurement scores.
        slices: Scores by slice: ``truth``, ``drawn``, ``dice``, ``confidence``, ``presence``; may be empty.
        note: Where the supports are from, if not from the usual set.
    """

    measure: str
    dataset: str
    object: str
    condition: str = ""
    method: str = "model"
    supports: int
    draw: int = 0
    case: str
    patient: str
    score: float
    slices: SliceScores = field(default_factory=dict)
    note: str = ""

    @property
    def row(self) -> tuple[str, str, str, str, str, int]:
        """What the record's row of a table is named by."""
        return self.measure, self.dataset, self.object, self.condition, self.method, self.supports


@dataclass(kw_only=True)
class Scores:
    """All scores of one model.

    Attributes:
        facts: ``model``, ``sha256``, ``part`` and the like.
        records: The scores.
    """

    facts: dict[str, Any]
    records: list[Record] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"format": FORMAT, "facts": self.facts, "records": [asdict(record) for record in self.records]}

    @staticmethod
    def read(path: Path) -> Scores:
        """Read a file of finished or of growing scores.

        Raises:
            InputError: If it is missing or something else.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"the scores {path} cannot be read: {error}; give a file that was measured") from error
        try:
            if path.suffix == ".jsonl":
                return ScoreFile.parse(text)
            stored = json.loads(text)
            return Scores(facts=stored["facts"], records=[_record(one) for one in stored["records"]])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} holds no scores: {error!r}; give a file of 'evaluate broad'") from error


class ScoreFile:
    """A growing file of scores; without a path they are only kept in memory.

    Attributes:
        scores: What it holds so far.
    """

    def __init__(self, path: Path | None, facts: dict[str, Any]) -> None:
        """Open the file, or begin it.

        Raises:
            OutputError: If the file holds scores of another model or part, or cannot be written.
        """
        facts = json.loads(json.dumps(facts))  # as they are read back, lists for tuples
        self.path, self.scores = path, Scores(facts=facts)
        self._units: set[str] = set()
        if path is not None and path.exists() and path.stat().st_size:
            self._resume(path)
        elif path is not None:
            self._write({"format": FORMAT, "facts": facts}, "w")

    def has(self, unit: Iterable[object]) -> bool:
        """Return whether a unit of work is done."""
        return _key(unit) in self._units

    def add(self, unit: Iterable[object], records: list[Record]) -> None:
        """Keep the records of a unit of work, and write them.

        Raises:
            OutputError: If the file cannot be written.
        """
        self._units.add(_key(unit))
        self.scores.records += records
        self._write({"unit": _key(unit), "records": [asdict(record) for record in records]}, "a")

    @staticmethod
    def parse(text: str) -> Scores:
        """Return the scores of a growing file's text; a last line that was cut off is dropped."""
        lines = list(_lines(text))
        return Scores(facts=lines[0]["facts"], records=[_record(one) for line in lines[1:] for one in line["records"]])

    def _resume(self, path: Path) -> None:
        try:
            lines = list(_lines(path.read_text(encoding="utf-8")))
            facts, units = lines[0]["facts"], [str(line["unit"]) for line in lines[1:]]
            records = [_record(one) for line in lines[1:] for one in line["records"]]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise OutputError(f"{path} is no file of scores: {error!r}; choose another file") from error
        other = [key for key in sorted({*facts, *self.scores.facts}) if facts.get(key) != self.scores.facts.get(key)]
        if other:
            raise OutputError(
                f"{path} holds scores with {other[0]} {facts.get(other[0])!r}, not "
                f"{self.scores.facts.get(other[0])!r}; "
                "choose another file, or remove this one"
            )
        self._units, self.scores.records = set(units), records
        # The whole lines only: what a stopped run left of its last one would spoil the next.
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def _write(self, line: dict[str, Any], mode: str) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(f"scores cannot be written to {self.path}: {error}; choose another file") from error


def _key(unit: Iterable[object]) -> str:
    return json.dumps([str(part) for part in unit])


def _lines(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON values of whole lines."""
    whole, _, _ = text.rpartition("\n")
    yield from (json.loads(line) for line in whole.splitlines())


def _record(stored: dict[str, Any]) -> Record:
    known = {one.name for one in fields(Record)}
    return Record(**{name: value for name, value in stored.items() if name in known})
