"""The library speaks of commands, the panel has buttons: the same sentence for whoever sees the panel."""

from __future__ import annotations

import re

from ProxyPromptSegmentModule.translation import _

_COMMAND = r"`proxyprompt models {0}[^`]*`"


def in_panel_words(sentence: str) -> str:
    """A sentence of the library with the panel's buttons in place of commands."""
    importing, fetching = _("Import file"), _("Download")
    for pattern, words in (
        (r"use " + _COMMAND.format("import"), _("press {button}").format(button=importing)),
        (_COMMAND.format("import"), importing),
        (_COMMAND.format("download"), fetching),
        (_COMMAND.format("list"), _("the list of models")),
        (r"the same command goes on there", _("{button} goes on there").format(button=fetching)),
        (r"--device cpu", _("the processor as device")),
        (r"--threshold", _("threshold")),
        (r"--axis", _("direction under “Slices along”")),
    ):
        sentence = re.sub(pattern, words.replace("\\", r"\\"), sentence)
    return sentence
