"""Remedies in the words of the panel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind
from ProxyPromptSegmentModule.remedies import advice, sentences, worded

MODULE = Path(__file__).resolve().parents[2] / "ProxyPromptSegment"
FACTS = {"model": "sam-vit-b", "file": "https://example.org/w.pth", "package": "av", "device": "cuda"}


@pytest.mark.parametrize("kind", RemedyKind)
def test_every_kind_of_remedy_has_a_whole_sentence_without_words_of_the_command_line(kind):
    said = advice(Remedy(kind=kind, **FACTS))
    assert said[0].isupper()
    assert said.endswith(".")
    assert "{" not in said
    assert "--" not in said
    assert "proxyprompt" not in said
    assert "`" not in said


def test_every_button_and_field_that_a_remedy_names_is_in_the_panel():
    shown = " ".join(file.read_text(encoding="utf-8") for file in (MODULE / "Resources/UI").glob("*.ui"))
    named = {name for text in sentences().values() for name in re.findall("“(.+?)”", text)}
    assert {"Import file", "Download", "Threshold"} <= named
    assert not [name for name in named if not re.search(rf"<string>{name}(\.\.\.|:)?</string>", shown)]


def test_facts_of_the_library_and_words_of_the_panel_make_two_sentences():
    said = Note("The segment is empty.", Remedy(kind=RemedyKind.LOWER_THRESHOLD))
    assert worded(said) == "The segment is empty. Lower the threshold under “Threshold”, or choose another support."
    error = CheckpointError("the file is damaged", Remedy(kind=RemedyKind.REPLACE_MODEL, model="x"))
    assert worded(error) == "the file is damaged. Press “Remove”, then “Download”."
    assert worded(CheckpointError("the file is damaged")) == "the file is damaged"


def test_who_ran_out_of_memory_on_the_processor_is_not_sent_there():
    assert "processor" in advice(Remedy(kind=RemedyKind.SAVE_MEMORY, device="cuda:0"))
    assert "processor" not in advice(Remedy(kind=RemedyKind.SAVE_MEMORY, device="cpu"))
