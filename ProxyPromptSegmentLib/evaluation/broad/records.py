"""The scores of single cases, in a file that grows while they are measured, so that an interrupted run resumes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.growing_file import FORMAT, GrowingFile, whole_lines

SliceScores = dict[str, list]


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


class ScoreFile(GrowingFile[Record]):
    """A growing file of scores; without a path they are only kept in memory.

    Attributes:
        scores: What it holds so far.
    """

    def __init__(self, path: Path | None, facts: dict[str, Any]) -> None:
        """Open the file, or begin it.

        Raises:
            OutputError: If the file holds scores of another model or part, or cannot be written.
        """
        super().__init__(path, facts, _record)
        self.scores = Scores(facts=self.facts, records=self.records)

    @staticmethod
    def parse(text: str) -> Scores:
        """Return the scores of a growing file's text; a last line that was cut off is dropped."""
        lines = list(whole_lines(text))
        return Scores(facts=lines[0]["facts"], records=[_record(one) for line in lines[1:] for one in line["records"]])


def _record(stored: dict[str, Any]) -> Record:
    known = {one.name for one in fields(Record)}
    return Record(**{name: value for name, value in stored.items() if name in known})
