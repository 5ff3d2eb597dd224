"""Which module may import which: read from the source, so that nothing has to be imported to check it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ProxyPromptSegmentLib"

# From the bottom to the top. A module may import its own layer and those below; a new module is added here.
LAYERS = (
    ("__init__", "errors", "progress", "interrupt", "output_files", "resources", "torchvision_guard"),
    (
        "geometry", "dicom_series", "itk_images", "seg_nrrd", "volumes", "segmentations", "support", "library",
        "postprocess",
        "preprocess", "slice_choice", "matching", "phantom", "jobs",
        "library_case", "library_files", "library_folders", "library_nrrd", "library_zip", "library_thumbnail",
        "findings", "support_flip", "support_shape",
    ),
    ("protocols",),
    ("backbones", "prompting"),
    ("model",),
    ("weights",),
    ("checkpoints", "registry"),
    (
        "results", "devices", "segmenter", "memory_bank", "agreement", "track_inputs", "track_state", "clicks",
        "tracker",
        "track_volume", "attribution", "feature_tiles",
    ),
    (
        "worker", "events", "engine", "encodings", "ladder", "estimate", "tasks", "task_context", "task_steps",
        "task_frames", "streaming",
        "pipeline", "training", "evaluation", "support_check", "support_trial", "likeness", "suggest",
    ),
    ("preview", "report", "results_table", "run_record", "frames", "tracked_files", "track_table", "overlay"),
    ("console", "commands", "cli", "__main__"),
)  # fmt: skip
# Beside the layers: who never imports whom, although the layers would let it.
APART = {
    "backbones": {"prompting"},
    "prompting": {"backbones", "segment_anything", "sam2", "torchvision_guard"},
    "training": {"worker", "pipeline"},
    "evaluation": {"worker", "pipeline"},
    "worker": {"training", "evaluation"},
    "pipeline": {"training", "evaluation"},
}
# Slicer's own modules exist only inside Slicer; the engine runs everywhere.
NOWHERE = {"slicer", "qt", "ctk", "vtk", "vtkmodules"}
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imported_names(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Every dotted name that a module imports, wherever in it, with the line; relative names are made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = module.split(".")[: -node.level] if node.level else []
            stem = ".".join(start + ([node.module] if node.module else []))
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield node.lineno, str(argument.value)


def part_of(name: str, package: Path) -> str:
    """A module's or subpackage's name directly below the package; what is no module of it belongs to ``__init__``."""
    part = (name.split(".") + ["__init__"])[1]
    return part if (package / part).is_dir() or (package / f"{part}.py").is_file() else "__init__"


def violations(package: Path) -> list[str]:
    """One sentence for each import that goes the wrong way."""
    found = []
    for file in sorted(package.rglob("*.py")):
        relative = file.relative_to(package)
        module = ".".join([PACKAGE, *relative.with_suffix("").parts])
        own, where = part_of(module, package), f"{PACKAGE}/{relative.as_posix()}"
        if own not in RANK:
            found.append(f"{where} has no layer; give '{own}' its place in LAYERS of {Path(__file__).name}")
            continue
        for line, name in imported_names(ast.parse(file.read_text(encoding="utf-8")), module):
            top = name.split(".")[0]
            other = part_of(name, package) if top == PACKAGE else top
            if top in NOWHERE or other in APART.get(own, ()):
                found.append(f"{where}:{line} imports {name}, which '{own}' must not know")
            elif top == PACKAGE and RANK.get(other, -1) > RANK[own]:
                found.append(f"{where}:{line} imports {name}, which is above it")
    return found


def test_every_import_of_the_library_goes_downwards():
    assert not violations(ROOT / PACKAGE), "\n".join(violations(ROOT / PACKAGE))


def test_the_documented_layers_are_all_walked():
    seen = {part_of(".".join([PACKAGE, *f.relative_to(ROOT / PACKAGE).parts]).removesuffix(".py"), ROOT / PACKAGE)
            for f in (ROOT / PACKAGE).rglob("*.py")}  # fmt: skip
    assert {"errors", "geometry", "support", "backbones", "prompting", "segmenter", "training", "cli"} <= seen


@pytest.mark.parametrize(
    ("file", "source", "told"),
    [
        ("geometry.py", "from ProxyPromptSegmentLib.support.pairs import SupportSet", ""),
        ("geometry.py", "from ProxyPromptSegmentLib.inference.segmenter import Segmenter", "above"),
        ("geometry.py", "def late():\n    from ProxyPromptSegmentLib import segmenter", "above"),
        ("geometry.py", "from . import segmenter", "above"),
        ("prompting/proxy/bridge.py", "from ...segmenter import Segmenter", "above"),
        ("prompting/proxy/bridge.py", "from .selective_map import read_support", ""),
        (
            "prompting/proxy/bridge.py",
            "from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone",
            "must not know",
        ),
        ("prompting/proxy/bridge.py", "import sam2.modeling.sam2_base", "must not know"),
        ("backbones/sam.py", "from ProxyPromptSegmentLib.prompting import proxy", "must not know"),
        ("backbones/sam.py", "from segment_anything.modeling import Sam", ""),
        ("training/run.py", "from ProxyPromptSegmentLib.worker.thread import Worker", "must not know"),
        ("errors.py", "import slicer.util", "must not know"),
        ("errors.py", "import importlib\nimportlib.import_module('vtk')", "must not know"),
        ("errors.py", "from ProxyPromptSegmentLib import __version__", ""),
        ("newcomer.py", "", "no layer"),
    ],
)
def test_a_planted_import_is_judged_rightly(tmp_path, file, source, told):
    package = tmp_path / PACKAGE
    for name in (
        "__init__",
        "errors",
        "support",
        "segmenter",
        "worker",
        "backbones/sam",
        "prompting/proxy/selective_map",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").write_text("")
    (package / file).parent.mkdir(parents=True, exist_ok=True)
    (package / file).write_text(source)
    found = violations(package)
    assert (len(found) == 1 and told in found[0]) if told else not found


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys; before = set(sys.modules); import {PACKAGE}; print(*sorted(set(sys.modules) - before))"
    assert run_python(code).split() == [PACKAGE]


@pytest.mark.parametrize("module", ["errors", "progress", "resources", "cli"])
def test_what_slicer_and_help_import_needs_no_torch(module):
    heavy = "[m for m in ('torch', 'SimpleITK', 'scipy', 'peft') if m in sys.modules]"
    code = f"import sys, {PACKAGE}.{module}; print(*{heavy})"
    assert run_python(code) == ""
