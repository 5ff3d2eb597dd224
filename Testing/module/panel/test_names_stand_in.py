"""The .ui files and the Python that uses them: names, classes, connections and texts. Stand-ins load them."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[3] / "ProxyPromptSegment"
UI_FILES = sorted((MODULE / "Resources" / "UI").glob("*.ui"))
_OF_THE_PANEL = re.compile(r"\bui\.|^import qt|_section|^widget|^wanted|^wording", re.M)
PANEL_FILES = [
    path
    for path in sorted((MODULE / "ProxyPromptSegmentModule").rglob("*.py"))
    if _OF_THE_PANEL.search(f"{path.name}\n{path.read_text(encoding='utf-8')}")
]
NOT_FOR_PEOPLE = re.compile(r"^[\W\d_]*$|^[a-z]+[A-Za-z0-9_.]*$|^[A-Z][A-Z_]+$|^(vtk|qMRML|ctk|Q)\w+|\(.*[*)]$")


def _names():
    return [one.get("name") for path in UI_FILES for one in ElementTree.parse(path).iter("widget")]


def test_every_name_is_there_once():
    twice = [name for name, count in Counter(_names()).items() if count > 1]
    assert not twice


def test_every_widget_that_python_names_is_in_a_ui_file():
    used = {
        name for path in PANEL_FILES for name in re.findall(r"\bui\.([A-Za-z]\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(used) > 50
    assert used <= set(_names())


def test_every_widget_to_press_or_fill_is_used_in_python():
    sources = "".join(path.read_text(encoding="utf-8") for path in PANEL_FILES)
    passive = ("QLabel", "QFrame", "qMRMLWidget", "ctkCollapsibleButton", "ctkCollapsibleGroupBox", "QWidget")
    for path in UI_FILES:
        for one in ElementTree.parse(path).iter("widget"):
            if one.get("class") not in passive:
                assert f"ui.{one.get('name')}" in sources, one.get("name")


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.stem)
def test_a_ui_file_is_whole(path):
    tree = ElementTree.parse(path)
    classes = {one.get("class") for one in tree.iter("widget")}
    custom = {one.find("class").text: one.find("header").text for one in tree.iter("customwidget")}
    assert set(custom) == {name for name in classes if name.startswith(("ctk", "qMRML"))}
    assert all(header == f"{name}.h" for name, header in custom.items())
    assert tree.find("class").text == path.stem == tree.find("widget").get("name")
    assert tree.find("widget").get("class") == "qMRMLWidget"
    selectors = {one.get("name") for one in tree.iter("widget") if one.get("class") == "qMRMLNodeComboBox"}
    connected = {
        one.find("receiver").text
        for one in tree.iter("connection")
        if one.find("signal").text == "mrmlSceneChanged(vtkMRMLScene*)"
    }
    assert selectors == connected


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.stem)
def test_everything_that_can_be_pressed_or_filled_has_a_tool_tip(path):
    kinds = ("QPushButton", "QCheckBox", "QComboBox", "QLineEdit", "QListWidget", "QTableWidget", "qMRMLNodeComboBox")
    for one in ElementTree.parse(path).iter("widget"):
        if one.get("class") in kinds:
            tips = [p.find("string").text for p in one.findall("property") if p.get("name") == "toolTip"]
            assert tips and tips[0], one.get("name")


def _untranslated(path):
    """Texts in a Python file that look like sentences or words for a person and are not inside of ``_()``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or NOT_FOR_PEOPLE.search(node.value):
            continue
        above = parents.get(node)
        if isinstance(above, ast.Expr):  # a docstring
            continue
        inside = []
        while above is not None:
            inside.append(above)
            above = parents.get(above)
        calls = [one for one in inside if isinstance(one, ast.Call)]
        names = [getattr(one.func, "id", getattr(one.func, "attr", "")) for one in calls]
        annotation = any(isinstance(one, (ast.arg, ast.AnnAssign)) for one in inside[:3])
        known = set(names) & {"_", "connect", "error", "info", "getattr", "ValueError"} or annotation
        if not known and " " in node.value.strip() and not node.value.startswith("<") and not node.value.endswith(";"):
            yield node.lineno, node.value


@pytest.mark.parametrize("path", PANEL_FILES, ids=lambda path: path.stem)
def test_every_sentence_can_be_translated(path):
    assert list(_untranslated(path)) == []


ITEMS = {
    "{name} segmentation", "{name}, corrected", "{name}, {size}", "{name}: {state}", "{name} ({state}{amount})",
    "{name} (in {count} of {all} supports)", "{name} (in {count} cases)", "{name}: {size}, licence {licence}",
    "{title}, {kind}. Double-click to rename it.", "{title}: {remark}", "{name}: {state}, not saved",
}  # fmt: skip
"""Texts of items, nodes and tool tips, which are shown as they are."""


def test_no_sentence_begins_with_a_bare_name_which_would_be_capitalised():
    """Sentences in labels begin with a capital; the name of a node, case or model is spelled as its owner spells it."""
    begun = {
        found
        for path in PANEL_FILES
        for found in re.findall(
            r'_\(\s*"(\{(?:name|title|image|case|volume|label|model)\}[^"]*)"', path.read_text("utf-8")
        )
    }
    assert begun - ITEMS == set()


def test_texts_of_the_ui_files_can_be_translated():
    for path in UI_FILES:
        for one in ElementTree.parse(path).iter("string"):
            if one.get("notr") == "true":
                assert " " not in (one.text or "")


def overlaps(ui):
    """Pairs of visible widgets that overlap though neither holds the other."""
    from PySide6 import QtCore, QtWidgets

    shown = [
        (name, one.real) for name, one in vars(ui).items() if isinstance(getattr(one, "real", None), QtWidgets.QWidget)
    ]
    shown = [(name, one) for name, one in shown if one.isVisible()]
    boxes = [(name, one, QtCore.QRect(one.mapToGlobal(QtCore.QPoint(0, 0)), one.size())) for name, one in shown]
    found = []
    for number, (name, one, box) in enumerate(boxes):
        for other_name, other, other_box in boxes[number + 1 :]:
            shared = box.intersected(other_box)
            held = one.isAncestorOf(other) or other.isAncestorOf(one)
            if not held and shared.width() > 1 and shared.height() > 1:
                found.append((name, other_name))
    return boxes, found


@pytest.mark.parametrize("width", [348, 700])
def test_nothing_overlaps_at_the_width_that_slicer_opens_with(make_panel, stand_ins, width):
    """Of 362 pixels the scroll bar takes 14; the walks compute the same in a real Slicer."""
    from widget_cases import add_case

    add_case("case 1", objects=tuple(f"structure {number}" for number in range(5)))
    panel = make_panel()
    panel.ui.addSupportButton.click()
    for name in (
        "libraryButton",
        "casesButton",
        "modelButton",
        "resultButton",
        "reviewButton",
        "whyButton",
        "teachButton",
    ):
        getattr(panel.ui, name).collapsed = False
    panel.frame.show()
    panel.frame.resize(width, panel.frame.sizeHint().height())
    stand_ins.process_events()
    boxes, found = overlaps(panel.ui)
    assert len(boxes) > 60 and not found, found
    assert {"supportTable", "removeSupportButton", "applyButton", "exportButton"} <= {
        name for name, _one, _box in boxes
    }
    panel.frame.hide()


@pytest.mark.parametrize("width", [348, 700])
def test_the_panel_is_not_wider_than_its_place(make_panel, width):
    from widget_cases import add_case

    add_case("a case with a rather long name that does not fit into a narrow panel at all, 2023-04-05")
    panel = make_panel()
    panel.ui.addSupportButton.click()
    panel.frame.resize(width, 1600)
    assert panel.frame.minimumSizeHint().width() <= 348
