"""The glossary names classes and modules that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = (ROOT / "Docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [line for line in GLOSSARY.splitlines() if line.startswith("| ") and not line.startswith("| word |")]
CARRIERS = sorted({name for row in ROWS for name in re.findall(r"`([\w.]+)`", row.split("|")[3])})


def defined(name: str) -> bool:
    """Whether a dotted name is a module, or a class, function or field of one."""
    parts = name.split(".")
    base = ROOT / "ProxyPromptSegmentLib"
    if parts[0] == "ProxyPromptSegmentModule":
        base, parts = ROOT / "ProxyPromptSegment" / parts[0], parts[1:]
    while parts and ((base / parts[0]).is_dir() or (base / f"{parts[0]}.py").is_file()):
        if (base / f"{parts[0]}.py").is_file():
            source = (base / f"{parts[0]}.py").read_text(encoding="utf-8")
            return all(re.search(rf"(?m)^\s*(class |def )?{part}\b\s*[:(=]", source) for part in parts[1:])
        base, parts = base / parts[0], parts[1:]
    return not parts


@pytest.mark.parametrize("name", CARRIERS)
def test_what_carries_a_word_exists(name):
    assert defined(name), f"{name} of Docs/glossary.md does not exist"


def test_each_word_has_one_row():
    words = [word for row in ROWS for word in row.split("|")[1].strip().split(", ")]
    assert len(words) > 30
    assert sorted(set(words)) == sorted(words)


def test_a_class_that_does_not_exist_is_noticed():
    assert not defined("imaging.volumes.Vollume")
    assert not defined("imaging.nowhere.Volume")
