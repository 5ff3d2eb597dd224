"""Remedies for errors and notes, as a kind with facts; the command line and the panel put them into words.

The library never names an option, a command or a button: `commands.remedies` and the module's `remedies` do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class RemedyKind(Enum):
    """The kinds of remedy; the command line and the panel have words for each of them."""

    ALLOW_HTTP = "allow http"
    """Permit unencrypted addresses, or download ``file`` by hand and import it."""
    ALLOW_SINGLE = "allow single"
    """Learn from a single patient, with whom nothing can be tested, or add another patient."""
    ANY_MODALITY = "any modality"
    """Look for a class whatever the modality of the target seems to be."""
    CHOOSE_AXIS = "choose axis"
    """Slice the target along another axis."""
    CHOOSE_DEVICE = "choose device"
    """Compute on a device that this machine has."""
    CHOOSE_FOLDER = "choose folder"
    """Write into another folder."""
    CHOOSE_FRAMES = "choose frames"
    """Choose frames that exist."""
    CHOOSE_NAME = "choose name"
    """Give the result another name, or remove what has it."""
    CHOOSE_FREE_NAME = "choose free name"
    """Give a model another name than that of one that is there."""
    CHOOSE_MODEL = "choose model"
    """Name a model that can segment."""
    CHOOSE_TILES = "choose tiles"
    """Segment whole slices, or choose another magnification of tiles."""
    CHOOSE_SUPPORT = "choose support"
    """Choose a support that shows the same organ in the same modality and contrast."""
    DOWNLOAD_MODEL = "download model"
    """Download the weights of ``model``, or import them from a file."""
    GIVE_BASE = "give base"
    """Give the file of the weights ``model``, on which a prompt generator was trained, or import it."""
    IMPORT_MODEL = "import model"
    """Download ``file`` of ``model`` by hand and import it."""
    INSTALL_PACKAGE = "install package"
    """Install the optional Python package ``package``."""
    INSTALL_REQUIREMENTS = "install requirements"
    """Install what the program needs: a package is missing or damaged."""
    KEEP_GAPS = "keep gaps"
    """Leave empty slices inside an object empty."""
    LOWER_THRESHOLD = "lower threshold"
    """Lower the probability threshold, or choose another support."""
    READ_ALL = "read all"
    """Let each slice read all supports instead of those most like it."""
    REINSTALL_PROGRAM = "reinstall program"
    """Install the program again: one of its own files is missing or damaged."""
    REPLACE_MODEL = "replace model"
    """Download ``model`` again in place of a damaged file."""
    RESUME_DOWNLOAD = "resume download"
    """Download ``model`` again, which resumes the transfer, or download ``file`` by hand and import it."""
    RETRY_DOWNLOAD = "retry download"
    """Download ``model`` again from the beginning, or download ``file`` by hand and import it."""
    SAVE_MEMORY = "save memory"
    """Compute with less memory than ``device`` has."""
    SCORE_SLICES = "score slices"
    """Evaluate each slice independently instead of tracking objects."""
    SEGMENT_IN_TILES = "segment in tiles"
    """Segment slice by slice, which can use tiles, instead of tracking objects."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """The action that a user can take about an error or a note.

    Attributes:
        kind: The kind of action, which determines its wording.
        model: Name of a registry entry; "" if the remedy concerns none.
        file: Name or address of a file to download.
        package: Name of a Python package.
        device: Name of the device whose memory ran out; "" if unknown.
    """

    kind: RemedyKind
    model: str = ""
    file: str = ""
    package: str = ""
    device: str = ""


class Severity(Enum):
    """How much a note matters."""

    INFORMATION = "information"
    """What was chosen or done for the user; the result is as good as it gets."""
    WARNING = "warning"
    """What may spoil the result, is missing from it, or is to be reviewed."""


@dataclass(frozen=True)
class Note:
    """A message to the user about a result.

    Attributes:
        text: The facts, as whole sentences that name no option, command or button.
        remedy: What to do about it; None if nothing, or if the text says it.
        severity: How much it matters.
    """

    text: str
    remedy: Remedy | None = None
    severity: Severity = Severity.WARNING

    def __str__(self) -> str:
        """Return the facts alone."""
        return self.text


def informing_first(notes: Iterable[Note]) -> list[Note]:
    """Return notes with those first that are no warnings, otherwise in their order: what is read last is kept."""
    return sorted(notes, key=lambda note: note.severity is Severity.WARNING)


def with_advice(facts: str, advice: str) -> str:
    """Join facts and the wording of a remedy to sentences; return the facts alone if ``advice`` is empty."""
    if not advice:
        return facts
    return f"{facts}{'' if facts.endswith(('.', '!', '?')) else '.'} {advice}"
