"""Enumerations of states and modes.

Each member equals the text that scenes and settings store and scripts use: ``RunState.FINISHED == "finished"``.
"""

from __future__ import annotations

from enum import Enum


class Word(str, Enum):
    """A string enumeration whose members are formatted as their values in every Python version."""

    def __str__(self) -> str:
        """Return the value."""
        return str(self.value)


class RunState(Word):
    """State of a run."""

    WAITING = "waiting"
    READING = "reading"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether this state is final."""
        return self in (RunState.FINISHED, RunState.CANCELLED, RunState.FAILED)


class TransferState(Word):
    """State of a download or an import."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether this state is final."""
        return self in (TransferState.FINISHED, TransferState.CANCELLED, TransferState.FAILED)


class InstallState(Word):
    """Outcome of an installation; with ``READY`` models can run."""

    READY = "ready"
    DECLINED = "declined"
    FAILED = "failed"


class ItemKind(Word):
    """Kind of the items of a sequence: single slices of one size, or volumes."""

    SLICES = "slices"
    VOLUMES = "volumes"


class Scope(Word):
    """The part of the target to segment, in the order of the combo box."""

    WHOLE = "whole"
    SLICES = "slices"
    BOX = "box"
    LIVE = "live"
    SEQUENCE = "sequence"


class PromptBy(Word):
    """What tells the model what to segment, in the order of the combo box."""

    SUPPORT = "support"
    CLASS = "class"
    STRUCTURE = "structure"
    HAND = "hand"

    @property
    def names_classes(self) -> bool:
        """Whether the model knows what is asked for by its name."""
        return self in (PromptBy.CLASS, PromptBy.STRUCTURE)


class SlicesHow(Word):
    """The annotated slices of a support to use, in the order of the combo box."""

    AUTOMATIC = "automatic"
    ALL_ANNOTATED = "all"
    THESE = "these"


class Editable(Word):
    """Area in which the Segment Editor's masking allows changes."""

    EVERYWHERE = "everywhere"
    INSIDE = "inside"
    OUTSIDE = "outside"


class CaseState(Word):
    """State of a case in a list of cases to work through."""

    NEW = "new"
    SEGMENTED = "segmented"
    CORRECTED = "corrected"
    ACCEPTED = "accepted"


class StudyState(Word):
    """What became of a study that is segmented together with others."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    INCOMPLETE = "incomplete"
    EMPTY = "empty"
    FAILED = "failed"
    BEFORE = "before"
    LEFT_OUT = "left out"

    @property
    def open(self) -> bool:
        """Whether it is still to be done."""
        return self in (StudyState.WAITING, StudyState.RUNNING)


class Mark(Word):
    """What a mark by hand says of an object."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    BOX = "box"
