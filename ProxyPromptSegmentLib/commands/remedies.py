"""Remedies worded for the command line, with its options and commands."""

from __future__ import annotations

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind, with_advice

_IMPORT = "`proxyprompt models import FILE`"
_BY_HAND = f"or fetch {{file}} on another machine and use {_IMPORT}."
_NETWORK = "Check network, proxy (HTTPS_PROXY) and certificates"

SENTENCES = {
    RemedyKind.ALLOW_HTTP: f"Add --allow-http to use it anyway, {_BY_HAND}",
    RemedyKind.ALLOW_SINGLE: "Add another patient, or --allow-single to learn from one without a test.",
    RemedyKind.ANY_MODALITY: "With --any-modality it is looked for anyway.",
    RemedyKind.CHOOSE_AXIS: "Choose another --axis, or auto.",
    RemedyKind.CHOOSE_DEVICE: "Choose --device auto or --device cpu.",
    RemedyKind.CHOOSE_FOLDER: "Choose another --output folder.",
    RemedyKind.CHOOSE_FRAMES: "Choose other --frames.",
    RemedyKind.CHOOSE_MODEL: "Choose a model or generator of `proxyprompt models list`.",
    RemedyKind.CHOOSE_FREE_NAME: "Choose another name: --output of `proxyprompt adapt`, --as of `models import`.",
    RemedyKind.CHOOSE_NAME: "Choose another --output name, or --restart to begin again where a state is in the way.",
    RemedyKind.CHOOSE_TILES: "Choose --tiles off for whole slices, or another magnification such as --tiles 2.",
    RemedyKind.CHOOSE_SUPPORT: (
        "Choose a --support that shows the same organ in the same modality and contrast, framed alike."
    ),
    RemedyKind.DOWNLOAD_MODEL: f"Run `proxyprompt models download {{model}}`, or use {_IMPORT}.",
    RemedyKind.GIVE_BASE: f"Give its file with --base, or import it with {_IMPORT}.",
    RemedyKind.IMPORT_MODEL: f"Fetch {{file}} yourself and use {_IMPORT}.",
    RemedyKind.INSTALL_PACKAGE: "Install it with `pip install {package}`.",
    RemedyKind.INSTALL_REQUIREMENTS: "Run `python3 setup_env.py install`, or install the requirements.",
    RemedyKind.KEEP_GAPS: "With --keep-gaps such slices stay empty.",
    RemedyKind.LOWER_THRESHOLD: "Choose a lower --threshold or another support.",
    RemedyKind.READ_ALL: "With --all-supports each slice reads all of them.",
    RemedyKind.REINSTALL_PROGRAM: (
        "Install the program again from a complete checkout, with `python3 setup_env.py install` or `pip install .`."
    ),
    RemedyKind.REPLACE_MODEL: "Replace it with `proxyprompt models download {model}`.",
    RemedyKind.RESUME_DOWNLOAD: (
        f"{_NETWORK} and run `proxyprompt models download {{model}}` again, which resumes there, {_BY_HAND}"
    ),
    RemedyKind.RETRY_DOWNLOAD: f"{_NETWORK} and run `proxyprompt models download {{model}}` again, {_BY_HAND}",
    RemedyKind.SAVE_MEMORY: (
        "Close other programs, or choose {cpu}a smaller --model, or fewer slices, supports or objects."
    ),
    RemedyKind.SCORE_SLICES: "Choose --protocol slice.",
    RemedyKind.SEGMENT_IN_TILES: "Use `proxyprompt segment`, which segments it in tiles.",
}  # a kind without words fails a test


def advice(remedy: Remedy) -> str:
    """Word a remedy for the command line."""
    cpu = "" if remedy.device.startswith("cpu") else "--device cpu, "
    return SENTENCES[remedy.kind].format(model=remedy.model, file=remedy.file, package=remedy.package, cpu=cpu)


def in_words(note: Note) -> Note:
    """Return a note whose text is worded for the command line, and of the same severity."""
    return Note(worded(note), severity=note.severity)


def worded(said: ProxyPromptError | Note) -> str:
    """Word an error or a note for the command line: its facts and what to do."""
    return with_advice(str(said), advice(said.remedy) if said.remedy else "")
