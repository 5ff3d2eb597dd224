"""What keeps the module's types true: where `Any` may stand, and that the stubs describe the real Slicer."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import mrml_scene

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "ProxyPromptSegment" / "ProxyPromptSegmentModule"
STUBS = ROOT / "Testing" / "stubs"
WITH_ANY = {
    "runs/chain.py": "outcomes come back through a queue of events, which cannot say their type",
}
"""The files that may use `Any`, and why."""
ASKING = {
    "install/slicer_pip.py": "another extension may have the name PyTorchUtils",
    "scene/editor_history.py": "a script has no Segment Editor",
    "scene/sample_data.py": "an older Slicer lacks a method",
    "scene/slice_views.py": "a script has no application window",
    "widget.py": "a test has no parent widget",
}
"""The files that may use `hasattr` or `getattr`, and why."""
BOUND_BY_NAME = {"panel/assembly.py": "the sections of a data class, in the order of its fields"}


def trees():
    for path in sorted(MODULE.rglob("*.py")):
        yield path.relative_to(MODULE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def named(tree: ast.AST) -> set[str]:
    """Names that a file uses, also inside texts that are annotations."""
    texts = " ".join(node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and _is_type(node.value))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | set(re.findall(r"\w+", texts))


def _is_type(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.\[\], |]+", value) is not None and "[" in value


def test_any_stands_in_the_listed_files_alone() -> None:
    assert {file for file, tree in trees() if "Any" in named(tree)} <= set(WITH_ANY)


def test_nobody_asks_an_object_what_it_has_where_its_type_says_it() -> None:
    asking = {file for file, tree in trees() if {"hasattr", "getattr", "cast"} & named(tree)}
    assert asking <= set(ASKING) | set(BOUND_BY_NAME)


def test_states_are_compared_by_their_names() -> None:
    from ProxyPromptSegmentModule import states

    kinds = [states.RunState, states.TransferState, states.InstallState]
    words = {str(word) for kind in kinds for word in kind}
    found = {
        (file, one.value)
        for file, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for one in [node.left, *node.comparators]
        if isinstance(one, ast.Constant) and one.value in words
    }
    assert not found


def test_no_section_holds_another_or_the_panel() -> None:
    sections = {file for file, _tree in trees() if file.endswith("_section.py")} | {"panel/supports_table.py"}
    assert len(sections) == 23
    modules = {f"ProxyPromptSegmentModule.{file[:-3].replace('/', '.')}" for file in sections}
    modules |= {"ProxyPromptSegmentModule.widget", "ProxyPromptSegmentModule.panel.assembly"}
    for file, tree in trees():
        if file in sections:
            taken = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            assert not taken & modules, file


# --- the stubs --------------------------------------------------------------------------------------------------------


def classes(file: Path) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)}


def members(kind: ast.ClassDef) -> set[str]:
    functions = {node.name for node in kind.body if isinstance(node, ast.FunctionDef)}
    values = {node.target.id for node in kind.body if isinstance(node, ast.AnnAssign)}
    return {name for name in functions | values if not name.startswith("__")}


@pytest.mark.skipif(not mrml_scene.has_mrml(), reason=mrml_scene.REASON)
@pytest.mark.parametrize("package", ["slicer", "vtk"])
def test_every_class_and_method_of_the_stubs_is_real(package) -> None:
    import slicer
    import vtk

    real = {"slicer": slicer, "vtk": vtk}[package]
    listed = {name: kind for name, kind in classes(STUBS / package / "__init__.pyi").items() if name.startswith("vtk")}
    assert len(listed) > 20
    for name, kind in listed.items():
        assert {one for one in members(kind) if not hasattr(getattr(real, name), one)} == set(), name
        for base in kind.bases:
            assert issubclass(getattr(real, name), getattr(vtk, base.id, None) or getattr(slicer, base.id)), name


def test_every_member_of_a_widget_in_the_stubs_is_one_that_slicer_named() -> None:
    pytest.importorskip("PySide6")
    from slicer_stand_ins import API, COMMON

    checked = 0
    for package, file in (("qt", "qt.pyi"), ("ctk", "ctk.pyi"), ("slicer", "slicer/__init__.pyi")):
        for name, kind in classes(STUBS / file).items():
            api = API.get(f"{package}.{name}")
            if api is None:
                continue
            checked += 1
            slots = {slot.split("(")[0] for slot in [*api["slots"], *COMMON["slots"], *api["signals"]]}
            known = {*api["properties"], *COMMON["properties"], *api["methods"], *COMMON["methods"], *slots}
            assert members(kind) - known == set(), name
    assert checked > 12


def test_the_widgets_that_the_code_names_are_those_of_the_ui_files() -> None:
    files: dict[str, dict[str, str]] = {}
    for kind in classes(MODULE / "panel" / "widgets.py").values():
        constants = [node.value for node in kind.body if isinstance(node, ast.Assign)]
        name = next(str(one.value) for one in constants if isinstance(one, ast.Constant))
        if name:
            widgets = [node for node in kind.body if isinstance(node, ast.AnnAssign)]
            files[name] = {node.target.id: ast.unparse(node.annotation) for node in widgets}
    folder = ROOT / "ProxyPromptSegment" / "Resources" / "UI"
    assert set(files) == {path.stem for path in folder.glob("*.ui")}
    for name, widgets in files.items():
        there = dict(
            (found[1], found[0])
            for found in re.findall(r'<widget class="(\w+)" name="(\w+)"', (folder / f"{name}.ui").read_text())
        )
        for widget, kind in widgets.items():
            assert kind.split(".")[-1] == there.get(widget), widget
