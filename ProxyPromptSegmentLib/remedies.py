"""What a user can do about an error or a note, as a kind and facts; command line and panel put it into words.

The library never names an option, a command or a button: `commands.remedies` and the module's `remedies` do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class RemedyKind(Enum):
    """The kinds of remedy; a face has words for each of them."""

    ALLOW_HTTP = "allow http"
    """Permit unencrypted addresses, or bring ``file`` by hand."""
    CHOOSE_AXIS = "choose axis"
    """Slice the target along another axis."""
    CHOOSE_DEVICE = "choose device"
    """Compute on a device that this machine has."""
    CHOOSE_FOLDER = "choose folder"
    """Write into another folder."""
    CHOOSE_FRAMES = "choose frames"
    """Ask for frames that exist."""
    CHOOSE_MODEL = "choose model"
    """Name a model that can segment."""
    DOWNLOAD_MODEL = "download model"
    """Download the weights of ``model``, or import them from a file."""
    IMPORT_MODEL = "import model"
    """Fetch ``file`` of ``model`` by hand and import it."""
    INSTALL_PACKAGE = "install package"
    """Install the optional Python package ``package``."""
    INSTALL_REQUIREMENTS = "install requirements"
    """Install what the program needs: a package is missing or damaged."""
    LOWER_THRESHOLD = "lower threshold"
    """Lower the threshold of probability, or take another support."""
    REINSTALL_PROGRAM = "reinstall program"
    """Install the program again: one of its own files is missing or damaged."""
    REPLACE_MODEL = "replace model"
    """Download ``model`` again in place of a damaged file."""
    RESUME_DOWNLOAD = "resume download"
    """Download ``model`` again, which resumes where it stopped, or bring ``file`` by hand."""
    RETRY_DOWNLOAD = "retry download"
    """Download ``model`` again from the beginning, or bring ``file`` by hand."""
    SAVE_MEMORY = "save memory"
    """Compute with less memory than ``device`` has."""
    SCORE_SLICES = "score slices"
    """Measure each slice on its own instead of following objects."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What a user can do.

    Attributes:
        kind: The kind, which decides the words.
        model: Name of a registered model; "" where none is meant.
        file: Name or address of a file to fetch.
        package: Name of a Python package.
        device: Name of the device whose memory ran out; "" where it is not known.
    """

    kind: RemedyKind
    model: str = ""
    file: str = ""
    package: str = ""
    device: str = ""


@dataclass(frozen=True)
class Note:
    """What the user should know about a result.

    Attributes:
        text: The facts, as whole sentences without the words of any face.
        remedy: What to do about it, where a face has to word that.
    """

    text: str
    remedy: Remedy | None = None

    def __str__(self) -> str:
        """Return the facts alone."""
        return self.text


def with_advice(facts: str, advice: str) -> str:
    """Join facts and a face's words for the remedy to sentences; the facts alone where there is no advice."""
    if not advice:
        return facts
    return f"{facts}{'' if facts.endswith(('.', '!', '?')) else '.'} {advice}"
