"""What is wrong with a support, in words: the one kind of answer that every check of supports gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "info"]
LEVELS: tuple[Level, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        level: ``error`` if the support cannot be used so, ``warning`` if the result may suffer, ``info`` otherwise.
        text: A sentence that says what was found and what can be done.
        object: Name of the object that it is about; empty if it is about the case.
        slices: Slices that it is about, counted from 0 along the axis of the annotation; empty if about all.
    """

    level: Level
    text: str
    object: str = ""
    slices: tuple[int, ...] = ()


def by_level(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, the most serious first, otherwise in their order."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def worst(findings: Iterable[Finding]) -> Level | None:
    """The most serious level among the findings; None if there are none."""
    return min((finding.level for finding in findings), key=LEVELS.index, default=None)
