"""Remedies in the words of the panel: its buttons and fields."""

from __future__ import annotations

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind, with_advice
from ProxyPromptSegmentModule.translation import _


def sentences() -> dict[RemedyKind, str]:
    """Return the sentence of each kind in the user's language; a test fails if a kind has none."""
    by_hand = _("or fetch {file} on another computer and press “Import file”.")
    return {
        RemedyKind.ALLOW_HTTP: _(
            "The panel uses encrypted connections only: fetch {file} yourself and press “Import file”."
        ),
        RemedyKind.ALLOW_SINGLE: _("Add a case of another patient."),
        RemedyKind.CHOOSE_AXIS: _("Choose another plane under “Slices along”."),
        RemedyKind.CHOOSE_DEVICE: _("Choose another device under “Device”, such as Automatic."),
        RemedyKind.CHOOSE_FOLDER: _("Choose another folder."),
        RemedyKind.CHOOSE_FRAMES: _("Choose other items of the sequence."),
        RemedyKind.CHOOSE_MODEL: _("Choose another model under “Model”."),
        RemedyKind.CHOOSE_FREE_NAME: _("Give the model another name."),
        RemedyKind.CHOOSE_NAME: _("Give the model another name, or tick “Begin again”."),
        RemedyKind.CHOOSE_TILES: _("Choose otherwise under “Tiles”."),
        RemedyKind.CHOOSE_SUPPORT: _(
            "Choose a support that shows the same organ in the same modality and contrast, framed alike; “Suggest for "
            "this target” ranks those of the library."
        ),
        RemedyKind.DOWNLOAD_MODEL: _("Press “Download”, or “Import file” if you have the file."),
        RemedyKind.GIVE_BASE: _("Press “Import file” and choose the file of {model}."),
        RemedyKind.IMPORT_MODEL: _("Fetch {file} yourself and press “Import file”."),
        RemedyKind.INSTALL_PACKAGE: _("Install it in Slicer's Python console: slicer.util.pip_install('{package}')."),
        RemedyKind.INSTALL_REQUIREMENTS: _("Press “Install” at the top of the panel."),
        RemedyKind.KEEP_GAPS: _("Without “Fill gaps” such slices stay empty."),
        RemedyKind.LOWER_THRESHOLD: _("Lower the threshold under “Threshold”, or choose another support."),
        RemedyKind.ANY_MODALITY: _("Choose a structure that this kind of image shows."),
        RemedyKind.READ_ALL: _("Without “Choose supports for each slice” each slice reads all of them."),
        RemedyKind.REINSTALL_PROGRAM: _("Install the extension again with the Extensions Manager."),
        RemedyKind.REPLACE_MODEL: _("Press “Remove”, then “Download”."),
        RemedyKind.RESUME_DOWNLOAD: _(
            "Check network, proxy (HTTPS_PROXY) and certificates and press “Download”, which resumes there,"
        )
        + " "
        + by_hand,
        RemedyKind.RETRY_DOWNLOAD: _("Check network, proxy (HTTPS_PROXY) and certificates and press “Download” again,")
        + " "
        + by_hand,
        RemedyKind.SAVE_MEMORY: _(
            "Close other programs, or choose {cpu}a smaller model under “Model”, or fewer slices, supports or objects."
        ),
        RemedyKind.SCORE_SLICES: _("Measure slice by slice instead."),
        RemedyKind.SEGMENT_IN_TILES: _(
            "Untick “Follow objects from slice to slice” to segment it in tiles; for a sequence, choose a model "
            "without memory."
        ),
    }


def advice(remedy: Remedy) -> str:
    """Word a remedy for the panel."""
    cpu = "" if remedy.device.startswith("cpu") else _("the processor under “Device”, ")
    return sentences()[remedy.kind].format(model=remedy.model, file=remedy.file, package=remedy.package, cpu=cpu)


def worded(said: ProxyPromptError | Note) -> str:
    """Word an error or a note for the panel: its facts and what to do."""
    return with_advice(str(said), advice(said.remedy) if said.remedy else "")
