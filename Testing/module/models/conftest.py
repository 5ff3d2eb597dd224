"""A shelf of models that leaves nothing behind; a test file names this one in ``pytest_plugins``."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostile_server import HostileServer
from ProxyPromptSegmentModule.models.catalog import ModelCatalog
from shelf_cases import PATIENCE, threads


@pytest.fixture
def server():
    with HostileServer() as running:
        yield running


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A cache and a registry of the user's own, both empty."""
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PROXYPROMPT_REGISTRY", str(tmp_path / "own.json"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


@pytest.fixture
def shelf(home):
    made = ModelCatalog()
    yield made
    assert made.close(PATIENCE), "a transfer would not end"
    assert not threads()
