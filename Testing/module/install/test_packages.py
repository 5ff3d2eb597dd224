"""Versions of packages: what Slicer has is held, what is new gets the tested version, also on Intel Macs."""

from __future__ import annotations

import types

import pytest

from install_cases import ROOT, SAM2, Tools, Versions, yes
from ProxyPromptSegmentModule.install import installer, packages
from ProxyPromptSegmentModule.install.installer import Requirements
from ProxyPromptSegmentModule.install.messages import MEGABYTES, purposes
from ProxyPromptSegmentModule.install.packages import (
    HELD,
    IMPORT_NAMES,
    REQUIREMENTS,
    Packages,
    normal,
    read_requirements,
    requirement_of,
)
from ProxyPromptSegmentModule.states import InstallState

PINS = read_requirements(ROOT / "Resources" / "constraints.txt")


def test_what_slicer_has_is_held_and_what_is_new_gets_the_tested_version():
    packages = Versions(
        numpy="2.3.4", scipy="1.16.0", SimpleITK="2.5.0", torch="2.8.0+cu126", requests="2.1", einops="0.1"
    )
    lines = packages.constraints(PINS, ["einops>=0.8", "peft>=0.17"])
    assert {"numpy==2.3.4", "scipy==1.16.0", "simpleitk==2.5.0", "torch==2.8.0+cu126"} <= set(lines)
    names = [normal(requirement_of(line).name) for line in lines]
    assert names.count("numpy") == names.count("torch") == 2 - 1, "a pin contradicts what is held"
    assert "requests" not in names, "a package of Slicer or of another extension would be changed"
    assert {"einops==0.8.2", "peft==0.21.2"} <= set(lines)
    assert "torchvision==0.28.0" not in lines, "PyTorch's parts come from the extension"


def test_a_numpy_that_is_too_old_is_never_replaced(target):
    tools = Tools(target)
    outcome = Requirements(tools, Versions(numpy="1.26.4"), ["numpy>=2.0"], "numpy").install(pytest.fail)
    assert outcome.state == InstallState.FAILED and "numpy 1.26.4" in outcome.text and not tools.calls


def test_what_others_ask_of_slicers_own_packages_changes_nothing():
    packages = Versions(numpy="2.3.4", engine="1")
    plain = packages._distribution
    packages._distribution = lambda name: (
        types.SimpleNamespace(version="1", requires=["numpy>=3", "tests; extra == 'dev'"])
        if name == "engine"
        else plain(name)
    )
    assert packages.unmet(["engine"]) == []
    assert packages.unmet(["numpy>=3"]) == ["numpy>=3"]


def test_every_package_that_is_asked_for_has_a_purpose_and_a_size():
    for line in [*read_requirements(REQUIREMENTS), installer.TORCH, *installer.SAM2_NEEDS, SAM2]:
        name = normal(requirement_of(line).name)
        assert name in IMPORT_NAMES and (name in HELD or name in MEGABYTES and name in purposes()), line


@pytest.fixture
def intel_mac(monkeypatch):
    """What the markers and the rules say on such a Mac, with a Slicer that has NumPy 2."""
    markers = pytest.importorskip("packaging.markers")
    values = {**markers.default_environment(), "sys_platform": "darwin", "platform_machine": "x86_64"}
    monkeypatch.setattr(markers, "default_environment", lambda: values)
    monkeypatch.setattr(packages, "SLICERS_OWN", ("scipy", "simpleitk"))
    monkeypatch.setattr(installer, "SLICERS_OWN", ("scipy", "simpleitk"))
    monkeypatch.setattr(packages, "HELD", ("scipy", "simpleitk", "torch", "torchvision"))
    return Versions(numpy="2.3.4", scipy="1.16.0", SimpleITK="2.5.0")


def test_on_an_intel_mac_numpy_1_and_transformers_4_are_asked_for_and_sam2_is_not(intel_mac, target):
    needs = Requirements(Tools(target), intel_mac)
    assert {"numpy<2", "transformers<5"} <= set(needs.missing()) and not needs.missing_for_sam2()
    assert f"• numpy<2: {purposes()['numpy']}" in needs.describe() and "sam2" not in needs.describe()
    lines = intel_mac.constraints(PINS, needs.missing())
    assert "numpy==2.3.4" not in lines and "scipy==1.16.0" in lines
    assert [line.partition(";")[0] for line in lines if line.startswith(("numpy", "transformers", "huggingface"))] == [
        "numpy==1.26.4",
        "huggingface_hub==0.36.2",
        "transformers==4.57.6",
    ]


def test_after_numpy_was_replaced_slicer_has_to_be_restarted(intel_mac, target):
    def take(requirements, constraints):
        intel_mac.versions.update(numpy="1.26.4")

    tools = Tools(target)
    tools.ensure = take
    needs = Requirements(tools, intel_mac, ["numpy<2; sys_platform == 'darwin'"], "scipy", sam2=False)
    outcome = needs.install(yes)
    assert outcome.ready and "Restart Slicer" in outcome.text


def test_with_a_pytorch_that_is_too_old_sam2_is_not_asked_for(monkeypatch, target):
    monkeypatch.setattr(installer, "newer_torch_for", lambda package: "2.5.1")
    assert Requirements(Tools(target), Packages([str(target)])).missing_for_sam2() == []
