"""A folder to install into, and the same PyTorch for all tests of installing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ProxyPromptSegmentModule.install import installer


@pytest.fixture(autouse=True)
def new_pytorch(monkeypatch):
    """The PyTorch of the tests' own Python decides nothing here."""
    monkeypatch.setattr(installer, "newer_torch_for", lambda package: "")


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "site").mkdir()
    return tmp_path / "site"
