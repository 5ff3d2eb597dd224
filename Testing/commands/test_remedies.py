"""Remedies in the words of the command line, and what it says of errors from outside of the program."""

from __future__ import annotations

import io

import pytest

from ProxyPromptSegmentLib import cli
from ProxyPromptSegmentLib.cli import build_parser
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.remedies import SENTENCES, advice, in_words, worded
from ProxyPromptSegmentLib.errors import CheckpointError, DeviceError, ProxyPromptError
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind, Severity, informing_first

FACTS = {"model": "sam-vit-b", "file": "https://example.org/w.pth", "package": "av", "device": "cuda"}


@pytest.mark.parametrize("kind", RemedyKind)
def test_every_kind_of_remedy_has_a_whole_sentence(kind):
    said = advice(Remedy(kind=kind, **FACTS))
    assert said[0].isupper()
    assert said.endswith(".")
    assert "{" not in said


@pytest.mark.parametrize(
    ("kind", "fact"),
    [
        (RemedyKind.DOWNLOAD_MODEL, "`proxyprompt models download sam-vit-b`"),
        (RemedyKind.REPLACE_MODEL, "`proxyprompt models download sam-vit-b`"),
        (RemedyKind.RESUME_DOWNLOAD, "`proxyprompt models download sam-vit-b` again, which resumes"),
        (RemedyKind.IMPORT_MODEL, "Fetch https://example.org/w.pth yourself"),
        (RemedyKind.ALLOW_HTTP, "--allow-http"),
        (RemedyKind.INSTALL_PACKAGE, "pip install av"),
        (RemedyKind.SAVE_MEMORY, "--device cpu"),
        (RemedyKind.LOWER_THRESHOLD, "--threshold"),
        (RemedyKind.CHOOSE_AXIS, "--axis"),
    ],
)
def test_the_words_name_the_option_or_command_and_the_facts(kind, fact):
    assert fact in advice(Remedy(kind=kind, **FACTS))


def test_who_ran_out_of_memory_on_the_processor_is_not_sent_there():
    assert "--device cpu" not in advice(Remedy(kind=RemedyKind.SAVE_MEMORY, device="cpu"))


def test_every_option_that_a_remedy_names_exists():
    parser = cli.build_parser()
    commands = next(action for action in parser._actions if action.dest == "command").choices
    known = {option for sub in commands.values() for action in _actions(sub) for option in action.option_strings}
    said = " ".join(advice(Remedy(kind=kind, **FACTS)) for kind in SENTENCES)
    named = {word.strip("`.,;") for word in said.split() if word.startswith("--")}
    assert len(named) >= 6
    assert named <= known


def _actions(parser):
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):
            for sub in action.choices.values():
                yield from _actions(sub)


@pytest.mark.parametrize("end", ["", "."])
def test_facts_and_advice_are_two_sentences(end):
    said = Note(f"the segment is empty{end}", Remedy(kind=RemedyKind.LOWER_THRESHOLD))
    assert worded(said) == "the segment is empty. Choose a lower --threshold or another support."


def test_without_a_remedy_the_facts_stay_as_they_are():
    assert worded(ProxyPromptError("no image; give one")) == "no image; give one"
    assert worded(Note("Frame 3 was skipped.")) == "Frame 3 was skipped."


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CheckpointError("'x' is damaged", Remedy(kind=RemedyKind.REPLACE_MODEL, model="x")), 7, "download x`"),
        (DeviceError("no cuda", Remedy(kind=RemedyKind.CHOOSE_DEVICE)), 8, "Choose --device auto"),
        (MemoryError(), 8, "memory ran out. Close other programs, or choose --device cpu"),
        (ModuleNotFoundError("No module named 'av'", name="av"), 1, "the Python package 'av' is not installed. Run"),
        (ImportError("DLL load failed"), 1, "a Python package cannot be loaded (DLL load failed). Run"),
        (ImportError("cannot import name 'x'", name="ProxyPromptSegmentLib.x"), 1, "please report it"),
        (ModuleNotFoundError("No module", name="ProxyPromptSegmentLib.x"), 1, "please report it"),
        (PermissionError(13, "Permission denied", "a.nrrd"), 6, "could not be read or written"),
        (ZeroDivisionError("division by zero"), 1, "(ZeroDivisionError: division by zero); please report it"),
    ],
)
def test_the_command_line_ends_with_a_sentence_and_the_exit_code(monkeypatch, capsys, error, code, said):
    def fail(args, console):
        raise error

    monkeypatch.setattr("ProxyPromptSegmentLib.commands.demo.run", fail)
    assert cli.main(["demo"]) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert len(shown.splitlines()) == 1


def test_what_only_informs_is_no_warning_and_quiet_leaves_it_out():
    informing = Note("Each slice is prompted by those 4.", Remedy(kind=RemedyKind.READ_ALL), Severity.INFORMATION)
    for quiet, expected in ((False, "c: note: Each slice"), (True, "c: warning: Frame 3")):
        err = io.StringIO()
        console = Console("c", quiet=quiet, err=err)
        for note in informing_first([Note("Frame 3 was skipped."), informing]):
            console.note(in_words(note))
        lines = err.getvalue().splitlines()
        assert lines[0].startswith(expected) and lines[-1] == "c: warning: Frame 3 was skipped."
        assert ("With --all-supports" in err.getvalue()) is not quiet


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("segment", "--target a"), ("cohort", "a"), ("track", "--target a"), ("everything", "--target a"), ("demo", ""),
        ("adapt", ""), ("train", "--recipe a --data b"), ("evaluate", ""), ("benchmark", ""), ("models", "export a"),
        ("models", "publish"),
    ],
)  # fmt: skip
def test_what_is_written_is_called_output_everywhere_and_out_is_still_understood(command, words, capsys):
    parser, asked = build_parser(command), [command, *words.split()]
    assert vars(parser.parse_args([*asked, "--output", "x"])) == vars(parser.parse_args([*asked, "--out", "x"]))
    with pytest.raises(SystemExit):
        parser.parse_args([*asked, "--help"])
    said = capsys.readouterr().out
    assert "--output" in said and "--out " not in said


def test_an_option_that_does_not_exist_is_answered_with_the_nearest_of_the_subcommand(capsys):
    assert cli.main(["segment", "--target", "a", "--output", "b.png", "--treshold", "0.3", "--nonsense"]) == 2
    said = capsys.readouterr().err
    assert "--treshold 0.3 --nonsense; did you mean --threshold? See 'proxyprompt segment --help'." in said
    assert cli.main(["models", "list", "--nonsense"]) == 2
    assert "unrecognized arguments: --nonsense; see 'proxyprompt models --help'." in capsys.readouterr().err
