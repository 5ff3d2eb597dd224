"""A file of scores that grows while they are measured, so that an interrupted measurement resumes.

It has a JSON value per line: first the facts that every score in it shares, then one line for each unit of work. A line
that was cut off is measured again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from ProxyPromptSegmentLib.errors import OutputError

FORMAT = 1
Item = TypeVar("Item")


class GrowingFile(Generic[Item]):
    """A growing file of scores; without a path they are only kept in memory.

    Attributes:
        facts: What all scores share.
        records: The scores so far, dataclasses of one kind.
    """

    def __init__(self, path: Path | None, facts: dict[str, Any], read: Callable[[Any], Item]) -> None:
        """Open the file, or begin it.

        Args:
            path: The file.
            facts: What all scores in it share; a file with other facts is refused.
            read: Makes a score of what `dataclasses.asdict` made of it.

        Raises:
            OutputError: If the file holds scores with other facts, or cannot be written.
        """
        self.path, self.facts, self._read = path, json.loads(json.dumps(facts)), read  # as they are read back
        self.records: list[Item] = []
        self._units: dict[str, dict[str, Any]] = {}
        self._of: dict[str, list[Item]] = {}
        if path is not None and path.exists() and path.stat().st_size:
            self._resume(path)
        elif path is not None:
            self._write({"format": FORMAT, "facts": self.facts}, "w")

    def has(self, unit: Iterable[object]) -> bool:
        """Return whether a unit of work is done."""
        return _key(unit) in self._units

    def units(self) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
        """Yield each unit of work that is done, with what was noted of it."""
        for key, about in self._units.items():
            yield json.loads(key), about

    def of(self, unit: Iterable[object]) -> list[Item]:
        """Return the scores of a unit of work; none if it is not done."""
        return self._of.get(_key(unit), [])

    def about(self, unit: Iterable[object]) -> Mapping[str, Any]:
        """Return what was noted of a unit of work; nothing if it is not done."""
        return self._units.get(_key(unit), {})

    def add(self, unit: Iterable[object], records: list[Item], **about: object) -> None:
        """Keep the scores of a unit of work, and write them.

        Raises:
            OutputError: If the file cannot be written.
        """
        self._units[_key(unit)], self._of[_key(unit)] = about, records
        self.records += records
        line = {"unit": _key(unit), "records": [asdict(record) for record in records]}  # type: ignore[call-overload]
        self._write({**line, **({"about": about} if about else {})}, "a")

    def _resume(self, path: Path) -> None:
        try:
            stored = path.read_bytes()
            lines = list(whole_lines(stored.decode("utf-8")))
            facts = lines[0]["facts"]
            units = {str(line["unit"]): dict(line.get("about", {})) for line in lines[1:]}
            read = {str(line["unit"]): [self._read(one) for one in line["records"]] for line in lines[1:]}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise OutputError(f"{path} is no file of scores: {error!r}; choose another file") from error
        other = [key for key in sorted({*facts, *self.facts}) if facts.get(key) != self.facts.get(key)]
        if other:
            raise OutputError(
                f"{path} holds scores with {other[0]} {facts.get(other[0])!r}, not {self.facts.get(other[0])!r}; "
                "choose another file, or remove this one"
            )
        self._units, self._of = units, read
        self.records += [one for records in read.values() for one in records]
        # What a stopped run left of its last line would spoil the next. It is cut off in place: a file that is written
        # again could be lost by another stop, and a new one in its place would not have the lock of this one.
        whole = stored.rfind(b"\n") + 1
        if whole < len(stored):
            try:
                os.truncate(path, whole)
            except OSError as error:
                raise OutputError(f"scores cannot be written to {path}: {error}; choose another file") from error

    def _write(self, line: dict[str, Any], mode: str) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(f"scores cannot be written to {self.path}: {error}; choose another file") from error


def whole_lines(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON values of whole lines of a growing file's text."""
    whole, _, _ = text.rpartition("\n")
    yield from (json.loads(line) for line in whole.splitlines())


def _key(unit: Iterable[object]) -> str:
    return json.dumps([str(part) for part in unit])
