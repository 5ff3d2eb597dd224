"""Sentences of the library as the panel says them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ProxyPromptSegmentModule.panel_words import in_panel_words

LIBRARY = Path(__file__).resolve().parents[3] / "ProxyPromptSegmentLib"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("fetch it and use `proxyprompt models import FILE`.", "fetch it and press Import file."),
        ("7 of 9 bytes are kept; the same command goes on there.", "7 of 9 bytes are kept; Download goes on there."),
        ("`proxyprompt models download sam-vit-b` mends it", "Download mends it"),
        ("name a model of `proxyprompt models list`.", "name a model of the list of models."),
        ("Choose a lower --threshold or another support.", "Choose a lower threshold or another support."),
        ("choose --device cpu or a smaller model", "choose the processor as device or a smaller model"),
        ("the mask is empty", "the mask is empty"),
    ],
)
def test_buttons_take_the_place_of_commands(said, shown):
    assert in_panel_words(said) == shown


def test_every_option_that_a_run_names_has_a_word():
    files = [LIBRARY / f"{name}.py" for name in ("matching", "pipeline", "segmenter", "jobs", "support", "tracker")]
    named = [found for file in files for found in re.findall(r"--[a-z]+(?: cpu)?", file.read_text(encoding="utf-8"))]
    assert len(named) >= 4
    assert not [one for one in named if "--" in in_panel_words(one)]


def test_every_command_that_the_library_names_has_a_button():
    files = [*LIBRARY.glob("weights/*.py"), LIBRARY / "registry.py", LIBRARY / "checkpoints.py"]
    named = [found for file in files for found in re.findall(r"`proxyprompt [^`]+`", file.read_text(encoding="utf-8"))]
    assert len(named) >= 6
    assert not [one for one in named if "proxyprompt" in in_panel_words(one)]
