"""Which file may import which: the contracts of pyproject.toml hold, and each of them notices what it forbids."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter is not installed")

ROOT = Path(__file__).resolve().parents[2]
LIBRARY, MODULE = "ProxyPromptSegmentLib", "ProxyPromptSegment/ProxyPromptSegmentModule"
MOST_PACKAGES = 16
# What writes voxels into segments, and the pictures of the panel.
WRITES = re.compile(
    r"updateSegmentBinaryLabelmapFromArray|SetBinaryLabelmapToSegment|arrayFromSegmentInternalBinaryLabelmap"
    r"|ModifySegmentByLabelmap|updateVolumeFromArray|AddRepresentation|InvokeEvent|numpy_to_vtk"
)
WRITERS = {
    "loaded_study",
    "labelled",
    "lattices",
    "segment_writer",
    "segment_layers",
    "new_segments",
    "sequence_writer",
    "sample_data",
    "images",
    "overlay",
}
# Which parts of the module may know Qt beside the panel: the timer, and the dialogs of the installation.
QT = ("widget.py", "panel/", "runs/pump.py", "install/slicer_pip.py", "wording.py")


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of a copy of the code; import-linter reads its configuration from the folder."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=root,
        env={"PYTHONPATH": f"{root}:{root / 'ProxyPromptSegment'}", "PATH": "", "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the library, the module and the contracts."""
    for folder in (LIBRARY, MODULE):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_hold():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("broken", "lines"),
    [
        ("import downwards", {f"{LIBRARY}/imaging/geometry.py": f"from {LIBRARY}.inference import job"}),
        (
            "import downwards",
            {f"{LIBRARY}/inference/segmenter.py": f"def late():\n    from {LIBRARY}.tracking import tracker"},
        ),
        ("circles inside the packages of the library", {f"{LIBRARY}/data/splits.py": f"import {LIBRARY}.data.cases",
          f"{LIBRARY}/data/cases.py": f"import {LIBRARY}.data.splits"}),
        ("circles inside the packages of the module",
         {f"{MODULE}/scene/nodes.py": "from ProxyPromptSegmentModule.scene import segment_writer",
          f"{MODULE}/scene/segment_writer.py": "from ProxyPromptSegmentModule.scene import nodes"}),
        ("never runs the command line", {f"{MODULE}/scene/nodes.py": f"from {LIBRARY}.commands import demo"}),
        ("need no torch", {f"{LIBRARY}/support/pairs.py": "def late():\n    import torch"}),
        ("neither Slicer nor the module", {f"{LIBRARY}/errors.py": "import slicer.util"}),
        ("neither Slicer nor the module", {f"{LIBRARY}/errors.py": "from ProxyPromptSegmentModule import logic"}),
        (
            "never import each other",
            {f"{LIBRARY}/networks/backbones/sam.py": f"from {LIBRARY}.networks.proxy_prompt import generator"},
        ),
    ],
)  # fmt: skip
def test_a_planted_import_breaks_its_contract(copy, broken, lines):
    for file, line in lines.items():
        path = copy / file
        path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    done = lint_imports(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [line for line in done.stdout.splitlines() if line.rstrip().endswith("BROKEN")]
    assert any(broken in line for line in failed), done.stdout


def test_the_top_level_of_the_library_stays_small():
    packages = [path for path in (ROOT / LIBRARY).iterdir() if (path / "__init__.py").is_file()]
    assert 0 < len(packages) <= MOST_PACKAGES, sorted(path.name for path in packages)


def module_files() -> dict[str, str]:
    """The text of every file of the module, by its path in it."""
    folder = ROOT / MODULE
    return {file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8") for file in folder.rglob("*.py")}


def test_only_the_files_for_it_write_voxels():
    found = {Path(name).stem for name, text in module_files().items() if WRITES.search(text)}
    assert "segment_layers" in found, "the pattern finds nothing any more"
    assert found <= WRITERS, f"{found - WRITERS} write voxels; scene/segment_writer.py is the place for it"


def test_only_the_panel_knows_qt():
    found = [name for name, text in module_files().items() if re.search(r"^\s*(import|from) (qt|ctk)\b", text, re.M)]
    assert "panel/tick_list.py" in found, "the pattern finds nothing any more"
    assert not [name for name in found if not name.startswith(QT)]


def run_python(code: str) -> str:
    """Run code in a fresh interpreter; return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys; before = set(sys.modules); import {LIBRARY}; print(*sorted(set(sys.modules) - before))"
    assert run_python(code).split() == [LIBRARY]


@pytest.mark.parametrize(
    "module", ["errors", "progress", "resources", "wording", "user_folders", "cli", "library.store", "weights.registry"]
)
def test_what_slicer_and_help_import_needs_no_torch(module):
    heavy = "[m for m in ('torch', 'SimpleITK', 'scipy', 'peft') if m in sys.modules]"
    code = f"import sys, {LIBRARY}.{module}; print(*{heavy})"
    assert run_python(code) == ""
