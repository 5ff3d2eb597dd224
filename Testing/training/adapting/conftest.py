"""Fixtures of the tests of adaptation: a clinic with a small model."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from pathlib import Path

from adapt_cases import register_small_model


@pytest.fixture
def clinic(home) -> Path:
    """A folder of the user's own, with a small model registered as 'small'."""
    register_small_model(home)
    return home
