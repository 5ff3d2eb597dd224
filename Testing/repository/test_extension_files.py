"""What the Extensions Index, CMake and Slicer's start-up ask of the repository's files."""

from __future__ import annotations

import ast
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE, LIBRARY = ROOT / "ProxyPromptSegment", ROOT / "ProxyPromptSegmentLib"
PACKAGE = MODULE / "ProxyPromptSegmentModule"
DOORPLATE = MODULE / "ProxyPromptSegment.py"
INDEX_ENTRY = ROOT / "Resources" / "ExtensionsIndex" / "ProxyPromptSegment.json"
RAW = "https://raw.githubusercontent.com/ProxyPromptSegment/SlicerProxyPromptSegment/main/"
# Keys of the index's schema 1.0.1, which refuses others.
KEYS = {
    "$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies", "build_subdirectory", "enabled",
    "tier",
}  # fmt: skip
MOST_BYTES = 100 * 1024 * 1024
# Beside the standard library; everything else waits until it is needed, because nothing else is installed at start-up.
ALLOWED = {"slicer", "qt", "ctk", "vtk", "numpy", "ProxyPromptSegmentModule", "ProxyPromptSegmentLib"}
BLOCKED = ("torch", "torchvision", "SimpleITK", "scipy", "sam2", "segment_anything", "peft", "safetensors", "einops")


def cmake_list(text: str, name: str) -> list[str]:
    """The entries of a ``set(NAME ...)`` over several lines."""
    (inside,) = re.findall(rf"^set\({name}\n(.*?)\)$", text, re.MULTILINE | re.DOTALL)
    return inside.replace("${MODULE_NAME}", "ProxyPromptSegment").split()


def extension_value(name: str) -> str:
    """A line ``set(EXTENSION_... "...")``, by the index's own kind of expression."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    (value,) = re.findall(rf'^set\(EXTENSION_{name} "([^"]+)"\)$', text, re.MULTILINE)
    return value


def pictures() -> list[str]:
    """The icon and the screenshots; CMakeLists.txt is the one place that lists them."""
    return [extension_value("ICONURL"), *extension_value("SCREENSHOTURLS").split()]


def own_files(folder: Path, pattern: str) -> list[str]:
    files = [file.relative_to(folder) for file in folder.rglob(pattern) if file.is_file()]
    return sorted(file.as_posix() for file in files if not any(p == "__pycache__" or p[0] == "." for p in file.parts))


@pytest.mark.parametrize(
    ("folder", "name", "files"),
    [
        (MODULE, "MODULE_PYTHON_SCRIPTS", lambda: own_files(MODULE, "*.py")),
        (LIBRARY, "MODULE_PYTHON_SCRIPTS", lambda: own_files(LIBRARY, "*.py")),
        (MODULE, "MODULE_PYTHON_RESOURCES", lambda: [f for f in own_files(MODULE, "*") if f.startswith("Resources/")]),
    ],
    ids=["module", "library", "resources"],
)
def test_cmake_lists_every_file(folder, name, files):
    there = files()
    listed = cmake_list((folder / "CMakeLists.txt").read_text(encoding="utf-8"), name)
    text = "".join(f"  {file}\n" for file in there).replace("  ProxyPromptSegment.py", "  ${MODULE_NAME}.py")
    assert sorted(listed) == there, f"\nin {folder.name}/CMakeLists.txt:\n\nset({name}\n{text}  )\n"


def test_a_build_has_the_same_data_as_a_wheel():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (wheel,) = re.findall(r'"ProxyPromptSegmentLib.Resources" = \[(.*)\]', pyproject)
    build = re.findall(r'"\$\{_resources\}/([^"$]+)"', (LIBRARY / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert sorted(build) == sorted(re.findall(r'"([^"]+)"', wheel.replace("**/*", "*")))


def test_the_index_entry_says_what_cmake_says():
    entry = json.loads(INDEX_ENTRY.read_text(encoding="utf-8"))
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    (project,) = re.findall(r"^project\((\w+)\)$", text, re.MULTILINE)
    assert project == INDEX_ENTRY.stem
    assert not project.startswith("Slicer")
    assert entry["build_dependencies"] == extension_value("DEPENDS").split()
    assert entry["scm_url"].removesuffix(".git") == extension_value("HOMEPAGE")
    assert entry["scm_url"].split("/")[-1] == f"Slicer{project}"
    assert "Research use only" in extension_value("DESCRIPTION")


def test_the_index_entry_follows_the_schema():
    raw = INDEX_ENTRY.read_bytes()
    entry = json.loads(raw)
    assert b"\r" not in raw
    assert {"$schema", "category", "scm_url"} <= entry.keys() <= KEYS
    assert re.search(r"/slicer-extension-catalog-entry-schema-v1\.0\.1\.json#$", entry["$schema"])
    assert entry["category"] == "Segmentation"
    assert entry["tier"] in (1, 3, 5)
    assert all(isinstance(name, str) for name in entry["build_dependencies"])


def test_icon_and_screenshots_are_in_the_checkout():
    assert len(pictures()) >= 2, "the index wants an icon and at least one screenshot"
    for url in pictures():
        assert url.startswith(RAW), url
        file = ROOT / url.removeprefix(RAW)
        assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n", f"{file} is no PNG"


@pytest.mark.parametrize(
    "file", ["Resources/ProxyPromptSegment.png", "ProxyPromptSegment/Resources/Icons/ProxyPromptSegment.png"]
)
def test_the_icons_have_the_size_that_slicer_shows(file):
    assert struct.unpack(">II", (ROOT / file).read_bytes()[16:24]) == (128, 128)


def test_there_is_a_licence_at_the_root():
    assert "Apache License" in (ROOT / "LICENSE.txt").read_text(encoding="utf-8")


def committed_files() -> list[Path]:
    """The files that a clone has; all but caches where this is no clone."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
        return [ROOT / name for name in listed.split("\0") if name]
    return [ROOT / name for name in own_files(ROOT, "*")]


def test_a_clone_is_small_enough_for_the_index():
    sizes = {file: file.stat().st_size for file in committed_files() if file.is_file()}
    largest = sorted(sizes, key=lambda file: -sizes[file])[:5]
    assert sum(sizes.values()) <= MOST_BYTES, [(file.name, sizes[file]) for file in largest]


def test_slicer_finds_one_module_and_no_script_of_ours():
    assert [file.name for file in MODULE.glob("*.py")] == [DOORPLATE.name], "Slicer loads every .py in a module path"
    for folder in (ROOT / "Testing", ROOT / "Testing" / "Slicer"):
        assert not (folder / "__init__.py").exists(), "extensions shadow each other's package Testing"


def test_no_test_is_installed():
    for folder in (MODULE, LIBRARY):
        assert not [file for file in own_files(folder, "*.py") if "test" in Path(file).name.lower()]


def test_the_tests_for_slicer_are_all_listed():
    folder = ROOT / "Testing" / "Slicer"
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    listed = cmake_list(text, "UNIT_TESTS") + cmake_list(text, "SCRIPTS")
    assert {f.name for f in folder.glob("test_*.py")} <= set(listed)


def test_the_doorplate_is_short_and_has_the_names_that_slicer_expects():
    text = DOORPLATE.read_text(encoding="utf-8")
    classes = {node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    assert len(text.splitlines()) < 150
    assert classes == {f"ProxyPromptSegment{part}" for part in ("", "Widget", "Logic", "Test")}


MODULE_FILES = [DOORPLATE, *sorted(PACKAGE.rglob("*.py"))]


def file_scope(node: ast.AST):
    """The nodes that run when a file is imported: everything outside of functions and of ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from file_scope(child)


def imported(nodes) -> set[str]:
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." if node.level else (node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("file", MODULE_FILES, ids=lambda file: file.stem)
def test_a_file_of_the_module_imports_only_what_slicer_has(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert imported(file_scope(tree)) <= ALLOWED | set(sys.stdlib_module_names)
    assert "imp" not in imported(ast.walk(tree)), "imp is gone from Python 3.12"
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"], "use logging"


def test_the_check_of_imports_sees_what_it_should():
    tree = ast.parse(
        "import numpy\ntry:\n    import torch\nexcept ImportError:\n    pass\ndef f():\n    import scipy\n"
    )
    assert imported(file_scope(tree)) == {"numpy", "torch"}


IMPORT_ALL = """
import importlib, sys, types

class Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = Anything(name, (), {"__init__": lambda self, *a, **k: None, "__call__": lambda self, *a, **k: self})
        setattr(cls, name, value)
        return value

class StandIn(types.ModuleType):
    __path__ = []
    def __getattr__(self, name):
        return getattr(Anything("Root", (), {}), name)

class Finder:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in BLOCKED:
            raise ImportError(f"{name} is not installed at Slicer's start-up")
        if top in ("slicer", "qt", "ctk", "vtk"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        return StandIn(spec.name)
    def exec_module(self, module):
        pass

import importlib.machinery
sys.meta_path.insert(0, Finder())
before = set(sys.modules)
failed = []
for name in NAMES:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed.append(f"{name}: {type(error).__name__}: {error}")
tops = {name.split(".")[0] for name in set(sys.modules) - before}
tops = {name for name in tops if "cython" not in name}  # NumPy 1 is built with it
print(failed, sorted(tops - set(sys.stdlib_module_names) - ALLOWED))
"""


def test_with_a_stand_in_for_slicer_every_file_imports_before_anything_is_installed():
    names = [
        "ProxyPromptSegment",
        *(".".join(f.relative_to(MODULE).with_suffix("").parts) for f in MODULE_FILES[1:] if f.stem[0] != "_"),
    ]
    code = f"NAMES, BLOCKED, ALLOWED = {names!r}, {BLOCKED!r}, {ALLOWED | {'ProxyPromptSegment'}!r}\n{IMPORT_ALL}"
    code = f"import sys; sys.path.insert(0, {str(MODULE)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[] []", done.stdout + done.stderr
