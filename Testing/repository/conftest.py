"""Stand-ins for the programs of the set-up, and a folder that it may fill."""

from __future__ import annotations

import pytest

from setup_cases import Programs


@pytest.fixture
def programs(monkeypatch):
    return Programs(monkeypatch)


@pytest.fixture
def venv(tmp_path):
    return tmp_path / "new folder" / ".venv"
