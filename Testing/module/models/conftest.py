"""A shelf of models that leaves nothing behind."""

from __future__ import annotations

import pytest

from ProxyPromptSegmentModule.models.catalog import ModelCatalog
from shelf_cases import PATIENCE, threads


@pytest.fixture
def shelf(home):
    made = ModelCatalog()
    yield made
    assert made.close(PATIENCE), "a transfer would not end"
    assert not threads()
