"""Slicer's own functions that install packages, as stand-ins with the real parameters."""

from __future__ import annotations

import sys
import types

import pytest

from ProxyPromptSegmentModule.install.slicer_pip import SlicerTools, suitable


@pytest.fixture
def slicer(monkeypatch):
    """An empty stand-in for Slicer's package."""
    module = types.ModuleType("slicer")
    module.util = types.ModuleType("slicer.util")
    module.__path__ = []
    monkeypatch.setitem(sys.modules, "slicer", module)
    monkeypatch.setitem(sys.modules, "slicer.util", module.util)
    monkeypatch.delitem(sys.modules, "slicer.packaging", raising=False)
    return module


def test_since_slicer_5_12_pip_ensure_is_used_and_asks_nothing_more(slicer, monkeypatch, tmp_path):
    calls = []

    def pip_ensure(requirements, constraints=None, skip_packages=None, prompt_install=True, prompt_restart=True,
                   requester=None, skip_in_testing=True, show_progress=True):  # fmt: skip
        calls.append((requirements, constraints, prompt_install, requester))

    packaging = types.ModuleType("slicer.packaging")
    packaging.pip_ensure = pip_ensure
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    SlicerTools().ensure(["einops>=0.8"], tmp_path / "c.txt")
    assert calls == [(["einops>=0.8"], str(tmp_path / "c.txt"), False, "Proxy Prompt Segment")]


def test_before_slicer_5_12_pip_install_is_used_with_the_constraints_as_arguments(slicer, tmp_path):
    calls = []
    slicer.util.pip_install = lambda requirements: calls.append(requirements)
    SlicerTools().ensure(["einops>=0.8"], tmp_path / "c c.txt")
    assert calls == [["einops>=0.8", "-c", str(tmp_path / "c c.txt")]]


class Torch2024:
    def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None,
                     torchvisionVersionRequirement=None):  # fmt: skip
        self.got.append((askConfirmation, torchVersionRequirement))


class TorchOld:
    def installTorch(self, askConfirmation=False, forceComputationBackend=None):
        self.got.append((askConfirmation, None))


class TorchBare:
    def installTorch(self):
        self.got.append((False, None))


class TorchAny:
    def installTorch(self, **keywords):
        self.got.append((keywords["askConfirmation"], keywords["torchVersionRequirement"]))


@pytest.mark.parametrize(
    ("logic", "requirement"), [(Torch2024, ">=2.6"), (TorchOld, None), (TorchBare, None), (TorchAny, ">=2.6")]
)
def test_the_extension_is_called_with_the_keywords_that_it_has(monkeypatch, logic, requirement):
    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic, logic.got = logic, []
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    assert SlicerTools().has_pytorch_extension()
    SlicerTools().install_torch(">=2.6")
    assert logic.got == [(False, requirement)]


def test_without_the_extension_that_is_said():
    assert not SlicerTools().has_pytorch_extension()


def test_a_function_without_a_signature_gets_no_keywords():
    assert suitable(dict.fromkeys, {"a": 1}) == {} or suitable(min, {"a": 1}) == {}
