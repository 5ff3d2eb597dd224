"""The library names no option, command or button: only its command line does; the panel names no option."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY, MODULE = ROOT / "ProxyPromptSegmentLib", ROOT / "ProxyPromptSegment" / "ProxyPromptSegmentModule"
# Not the variables of a style sheet: "--ink: #fff" and "var(--ink)".
OPTION = re.compile(r"(?<![\w-])(?<!var\()--[a-z][a-z-]*(?![a-z:-])")
COMMAND = re.compile(r"`proxyprompt |pip install |setup_env\.py")


def strings(source: str) -> list[tuple[int, str]]:
    """Line and text of every string in a source but docstrings, and names of options that a parser is given."""
    tree = ast.parse(source)
    left_out = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "add_argument":
            left_out |= set(node.args)
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in left_out]
    return [(node.lineno, node.value) for node in constants if isinstance(node.value, str)]


def below_the_command_line() -> list[Path]:
    """The files of the library without its command line."""
    files = [file for file in LIBRARY.rglob("*.py") if "commands" not in file.relative_to(LIBRARY).parts]
    return [file for file in files if file.name not in ("cli.py", "__main__.py")]


def test_no_string_below_the_command_line_names_an_option_or_a_command():
    files = below_the_command_line()
    assert len(files) > 100
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text[:80]!r}"
        for file in files
        for line, text in strings(file.read_text(encoding="utf-8"))
        if OPTION.search(text) or COMMAND.search(text)
    ]
    assert not found, "give a Remedy and word it in commands/remedies.py:\n" + "\n".join(found)


def test_no_string_of_the_panel_names_an_option_or_a_command():
    files = [file for file in MODULE.rglob("*.py") if file.parent.name != "install"]  # which calls pip with options
    assert len(files) > 30
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text[:80]!r}"
        for file in files
        for line, text in strings(file.read_text(encoding="utf-8"))
        if OPTION.search(text) or COMMAND.search(text)
    ]
    assert not found, "word it in ProxyPromptSegmentModule/remedies.py:\n" + "\n".join(found)


def test_the_panel_rewrites_no_sentences_by_pattern():
    uses = re.compile(r"\bre\.subn?\(|^\s*from re import|\.subn?\(r?[\"']", re.MULTILINE)
    assert not [file.name for file in MODULE.rglob("*.py") if uses.search(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ('raise E("choose --device cpu")', True),
        ('raise E(f"{x} needs --axis")', True),
        ('say("run `proxyprompt models list`")', True),
        ('parser.add_argument("--data", help="a folder")', False),
        ('def f():\n    """Read ``--frames``."""', False),
        ('say("well -- not an option, nor re--read")', False),
    ],
)
def test_the_check_sees_words_of_the_command_line_and_nothing_else(line, seen):
    assert any(OPTION.search(text) or COMMAND.search(text) for _, text in strings(line)) is seen
