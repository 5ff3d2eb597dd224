"""What an ordinary installation gets: a wheel is built here, without a network, and looked into."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77", reason="builds the wheel")

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ProxyPromptSegmentLib"
RESOURCES = ("models", "recipes", "splits")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what is built, so that nothing is written into the checkout or taken from an earlier build in it."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE.txt"):
        shutil.copy2(ROOT / name, folder)
    for name in (PACKAGE, "Resources"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> zipfile.ZipFile:
    """The wheel that ``pip install .`` would install."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-I", "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--quiet"]
    done = subprocess.run([*command, "-w", str(folder), str(source)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def names_in(folder: Path, pattern: str = "*") -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob(pattern) if file.is_file()}


def test_the_wheel_has_every_module_of_the_library(wheel, source):
    inside = {name.removeprefix(f"{PACKAGE}/") for name in wheel.namelist() if name.endswith(".py")}
    assert inside == names_in(source / PACKAGE, "*.py"), "add the package to pyproject.toml's list"


def test_the_wheel_has_every_model_recipe_and_split_and_the_constraints(wheel, source):
    start = f"{PACKAGE}/Resources/"
    inside = {name.removeprefix(start) for name in wheel.namelist() if name.startswith(start)}
    needed = {f"{folder}/{name}" for folder in RESOURCES for name in names_in(source / "Resources" / folder)}
    assert inside == needed | {"constraints.txt"}
    for entry in json.loads(wheel.read(start + "models/registry.json"))["models"]:
        if entry.get("embedded"):
            original = source / "Resources" / "models" / entry["file"]
            assert wheel.read(start + "models/" + entry["file"]) == original.read_bytes()


def test_the_wheel_puts_nothing_beside_the_package(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {PACKAGE}


def test_what_was_installed_finds_its_models_recipes_and_splits_from_any_folder(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    code = (
        "from ProxyPromptSegmentLib.commands.train import find_recipe\n"
        "from ProxyPromptSegmentLib.resources import resource_path\n"
        "from ProxyPromptSegmentLib.data.splits import read_split\n"
        "print(resource_path('models/registry.json'), find_recipe('sam-compact-1'), len(read_split('psfhs')['train']))"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def python(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    registry, recipe, count = python("-c", code).split()
    resources = tmp_path / "site" / PACKAGE / "Resources"
    assert Path(registry) == resources / "models" / "registry.json"
    assert Path(recipe) == resources / "recipes" / "sam-compact-1.json"
    assert count == "14"
    assert "sam-compact" in python("-m", PACKAGE, "models", "list")
