"""A trainer on made data and a small network, whose clock is a count."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_backbone
from ProxyPromptSegmentLib.data.splits import Split
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator
from ProxyPromptSegmentLib.training import trainer as module
from trainer_cases import made_cases


@pytest.fixture
def data(monkeypatch, tmp_path):
    """Synthetic cases in the place of a data set."""
    cases = made_cases()
    monkeypatch.setattr(module, "load_parts", lambda root, name: Split(train=cases[:4], validation=[], test=cases[4:]))
    return tmp_path / "no data"


@pytest.fixture
def tiny(monkeypatch):
    """The compact backbone at 64 pixels instead of 128."""

    def build(backbone, config, lora_rank=0, base=None):
        assert backbone == "sam-compact" and base is None
        return ProxyPromptModel(tiny_backbone(), ProxyPromptGenerator(config))

    monkeypatch.setattr(module, "build_model", build)


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock finds it a second later, so that each step takes one."""
    seconds = itertools.count()
    monkeypatch.setattr(module, "training_clock", lambda device: float(next(seconds)))
