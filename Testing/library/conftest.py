"""An empty library."""

from __future__ import annotations

from pathlib import Path

import pytest

from ProxyPromptSegmentLib.library.store import SupportLibrary


@pytest.fixture
def library(tmp_path: Path) -> SupportLibrary:
    return SupportLibrary(tmp_path / "library")
