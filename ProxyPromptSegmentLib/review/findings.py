"""Findings about a support: the result type of all support checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ProxyPromptSegmentLib.remedies import Note, Remedy, Severity

Level = Literal["error", "warning", "info"]
LEVELS: tuple[Level, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """A single finding of a support check.

    Attributes:
        level: ``error`` if the support is unusable, ``warning`` if the result may suffer, ``info`` otherwise.
        text: A sentence stating what was found.
        object: Name of the object concerned; empty if it concerns the whole case.
        slices: Slices concerned, counted from 0 along the axis of the annotation; empty if all are.
        remedy: What to do about it, where a face has to word that.
    """

    level: Level
    text: str
    object: str = ""
    slices: tuple[int, ...] = ()
    remedy: Remedy | None = None

    @property
    def note(self) -> Note:
        """Text, remedy and severity, for a face to word."""
        return Note(self.text, self.remedy, Severity.INFORMATION if self.level == "info" else Severity.WARNING)


def by_level(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings sorted by severity, most serious first, otherwise in their order."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))
