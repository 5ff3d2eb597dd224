"""The tutorial names what the panel shows: each button, section and message that it quotes is there."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "ProxyPromptSegment"
TUTORIAL = ROOT / "Docs" / "slicer_tutorial.md"
ELSEWHERE = {
    "Extensions Manager", "ProxyPromptSegment", "PyTorch", "QuantitativeReporting", "highdicom", "Sample Data",
    "Segment Editor", "Segmentation", "Proxy Prompt", "Proxy Prompt Segment",
}  # fmt: skip
"""Names of Slicer, of other extensions, and of the module itself."""
STRESSED = {"support", "target", "Research use only.", "cases", "new model", "time", "slices to look at first"}
"""Words that are stressed, not quoted."""


def shown() -> set[str]:
    """Texts of the .ui files and of the module's Python, without what is put in."""
    texts: list[str] = []
    for path in sorted((MODULE / "Resources" / "UI").glob("*.ui")):
        texts += [one.text or "" for one in ElementTree.parse(path).iter("string")]
    modules = [*(MODULE / "ProxyPromptSegmentModule").rglob("*.py"), *(ROOT / "ProxyPromptSegmentLib").rglob("*.py")]
    for path in sorted(modules):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        loose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in loose]
        texts += [node.value for node in constants if isinstance(node.value, str)]
    return {" ".join(text.split()) for text in texts}


def quoted() -> list[str]:
    """What the tutorial writes in bold or italics, in the order of the text."""
    text = TUTORIAL.read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|!\[.*?\]\(.*?\)|`[^`]*`", "", text, flags=re.S)
    text = re.sub(r"^\* ", "", text, flags=re.M)
    return [" ".join(found.split()) for _stars, found in re.findall(r"(\*{1,2})(?!\s)([^*]+?)\1", text)]


def test_whatever_the_tutorial_quotes_is_in_the_module():
    texts = shown()
    wanted = [one for one in quoted() if one not in ELSEWHERE and one not in STRESSED]
    assert len(wanted) > 40

    def is_there(words: str) -> bool:
        parts = [part.strip() for part in re.split(r"\.\.\.|;", words) if part.strip()]
        return all(any(part.casefold() in text.casefold() for text in texts) for part in parts)

    assert [one for one in wanted if not is_there(one)] == []
