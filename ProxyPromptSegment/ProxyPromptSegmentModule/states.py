"""States and modes by name, each defined here and nowhere else.

Every one is also the text that scenes, scripts and settings know: ``RunState.FINISHED == "finished"``.
"""

from __future__ import annotations

from enum import Enum


class Word(str, Enum):
    """A name that is written as its value, in every Python version."""

    def __str__(self) -> str:
        """Return the value."""
        return str(self.value)


class RunState(Word):
    """How far a run is."""

    WAITING = "waiting"
    READING = "reading"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self in (RunState.FINISHED, RunState.CANCELLED, RunState.FAILED)


class TransferState(Word):
    """How far a download or an import is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self in (TransferState.FINISHED, TransferState.CANCELLED, TransferState.FAILED)


class InstallState(Word):
    """How an installation has ended; with ``READY`` models can run."""

    READY = "ready"
    DECLINED = "declined"
    FAILED = "failed"


class ItemKind(Word):
    """What the items of a sequence are: single slices of one size, or volumes."""

    SLICES = "slices"
    VOLUMES = "volumes"


class Scope(Word):
    """How much of the target is segmented, in the order of the combo box."""

    WHOLE = "whole"
    SLICES = "slices"
    BOX = "box"
    LIVE = "live"
    SEQUENCE = "sequence"


class SlicesHow(Word):
    """Which annotated slices of a support are used, in the order of the combo box."""

    AUTOMATIC = "automatic"
    ALL_ANNOTATED = "all"
    THESE = "these"


class Editable(Word):
    """Where the Segment Editor's masking lets voxels change."""

    EVERYWHERE = "everywhere"
    INSIDE = "inside"
    OUTSIDE = "outside"
