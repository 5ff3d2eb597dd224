"""Imports in functions: heavy third-party packages, and our own files only where they load such packages."""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "ProxyPromptSegmentLib": ROOT / "ProxyPromptSegmentLib",
    "ProxyPromptSegmentModule": ROOT / "ProxyPromptSegment" / "ProxyPromptSegmentModule",
}
# Slicer has these, and they are there when the module loads.
LIGHT = {"numpy", "slicer", "qt", "ctk", "vtk"}
# Files that load with the standard library alone, so that for them NumPy is heavy too.
NO_NUMPY = {"ProxyPromptSegmentLib.library.store"}


@functools.cache
def files() -> dict[str, Path]:
    """Every file by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for file in folder.rglob("*.py"):
            name = ".".join((package, *file.relative_to(folder).with_suffix("").parts))
            found[name.removesuffix(".__init__")] = file
    return found


def owner(name: str) -> str:
    """The file that a dotted name lies in."""
    while name and name not in files():
        name = name.rpartition(".")[0]
    return name


@functools.cache
def imports_of(name: str) -> tuple[frozenset[str], frozenset[str], tuple[tuple[int, str], ...]]:
    """Our own files and third-party packages that a file imports at its top, and its own files in functions."""
    own, foreign, late = set(), set(), []

    def visit(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            names = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                names = [f"{child.module}.{alias.name}" for alias in child.names]
            for one in names:
                top = one.split(".")[0]
                if top in PACKAGES:
                    late.append((child.lineno, owner(one))) if inside else own.add(owner(one))
                elif not inside and top not in sys.stdlib_module_names:
                    foreign.add(top)
            visit(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(ast.parse(files()[name].read_text(encoding="utf-8")), False)
    return frozenset(own - {name}), frozenset(foreign), tuple(late)


def loads(name: str) -> set[str]:
    """Third-party packages that importing a file loads, through whatever it imports."""
    seen, waiting, found = set(), [name], set()
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            own, foreign, _ = imports_of(one)
            waiting += own
            found |= foreign
    return found


def needless() -> list[str]:
    """A sentence for each import in a function that protects its file from nothing."""
    found = []
    for name in files():
        here = loads(name)
        light = LIGHT - {"numpy"} if name in NO_NUMPY else LIGHT
        for line, target in imports_of(name)[2]:
            if not loads(target) - here - light:
                found.append(f"{files()[name].relative_to(ROOT)}:{line} imports {target}, which loads nothing heavy")
    return found


def test_our_own_files_are_imported_at_the_top() -> None:
    assert needless() == []


def test_the_walk_sees_what_a_file_loads() -> None:
    assert "torch" in loads("ProxyPromptSegmentLib.inference.segmenter")
    assert "torch" not in loads("ProxyPromptSegmentLib.cli")
    assert any(late for *_, late in map(imports_of, files())), "no file defers anything; the walk is blind"
