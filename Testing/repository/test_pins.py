"""The versions of packages: one list of pins that fits every list of ranges, on every system and for every Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("packaging")

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ProxyPromptSegmentLib.weights.availability import OLDEST_TORCH
from ProxyPromptSegmentModule.install import installer
from ProxyPromptSegmentModule.install.packages import read_requirements

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "Resources" / "constraints.txt"
OWN = ROOT / "ProxyPromptSegment" / "Resources" / "requirements.txt"
INTEL_MAC = ("darwin", "x86_64")
SYSTEMS = [
    (system, machine, python)
    for system, machine in [
        ("linux", "x86_64"),
        ("linux", "aarch64"),
        ("win32", "AMD64"),
        ("darwin", "arm64"),
        INTEL_MAC,
    ]
    for python in ("3.10", "3.11", "3.12", "3.13")
    if (system, machine, python) != (*INTEL_MAC, "3.13")  # no PyTorch there
]


def of_the_project():
    tomllib = pytest.importorskip("tomllib", reason="comes with Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"], [line for more in project["optional-dependencies"].values() for line in more]


def those_for(lines, system, machine, python):
    marks = {"sys_platform": system, "platform_machine": machine, "python_version": python, "extra": ""}
    asked = [Requirement(line) for line in lines]
    return [one for one in asked if one.marker is None or one.marker.evaluate(marks)]


def pins_for(*place):
    found = those_for(read_requirements(CONSTRAINTS), *place)
    pins = {canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in found}
    assert len(pins) == len(found), "a package has two pins"
    return pins


@pytest.mark.parametrize("place", SYSTEMS, ids="-".join)
def test_everything_that_is_needed_has_one_exact_pin_within_its_range(place):
    pins = pins_for(*place)
    needed, optional = of_the_project()
    lines = [*needed, *optional, *read_requirements(OWN), installer.TORCH, *installer.SAM2_NEEDS]
    for requirement in those_for(lines, *place):
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, str(requirement)


@pytest.mark.parametrize("place", SYSTEMS, ids="-".join)
def test_sam2_is_pinned_where_pytorchs_pin_is_new_enough_and_only_there(place):
    pins = pins_for(*place)
    assert ("sam2" in pins) == (pins["torch"] >= Version(OLDEST_TORCH["sam2"]))


def test_the_pins_suit_slicers_systems():
    windows, mac = pins_for("win32", "AMD64", "3.12"), pins_for(*INTEL_MAC, "3.12")
    assert windows["torch"].release[:2] != (2, 13), "its longest path is too long for Slicer's folder"
    assert mac["torch"].release[:2] == (2, 2) and mac["numpy"].major == 1 and mac["transformers"].major == 4


def test_the_module_asks_for_the_ranges_of_the_project():
    needed, _ = of_the_project()
    assert {*read_requirements(OWN), *installer.SAM2_NEEDS} <= set(needed)
    on_windows = [str(one.specifier) for one in those_for(needed, "win32", "AMD64", "3.12") if one.name == "torch"]
    assert {"torch>=2.2", "torch!=2.13.*; sys_platform == 'win32'"} <= set(needed)
    assert set(str(Requirement(installer.TORCH).specifier).split(",")) <= {*on_windows}
    assert ("!=2.13.*" in installer.TORCH) == (sys.platform == "win32")


def test_no_list_of_packages_names_an_index():
    for file in (CONSTRAINTS, OWN, ROOT / "pyproject.toml"):
        text = file.read_text(encoding="utf-8")
        assert "index-url" not in text and "find-links" not in text and "/simple" not in text, file


def test_the_file_of_sam2_is_pinned_once():
    pin, digest = installer.sam2_pin()
    assert Requirement(pin).name == "sam2" and len(digest.removeprefix("sha256:")) == 64
    files = [ROOT / "setup_env.py", *(ROOT / "ProxyPromptSegment").rglob("*.*"), *(ROOT / "Resources").glob("*.txt")]
    named = [file for file in files if file.suffix in (".py", ".txt") and digest in file.read_text(encoding="utf-8")]
    assert named == [CONSTRAINTS]
