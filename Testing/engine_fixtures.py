"""Fixtures of tests of the engine: the embedded models, and an engine that holds one of them."""

from __future__ import annotations

import pytest
from worker_doubles import an_engine, embedded

from ProxyPromptSegmentLib.segmenter import Segmenter


@pytest.fixture(scope="module")
def model():
    return embedded()


@pytest.fixture(scope="module")
def sam2_model():
    pytest.importorskip("sam2")
    return embedded("sam2-compact")


@pytest.fixture
def segmenter(model):
    return Segmenter(model, "cpu", batch=1)


@pytest.fixture
def engine(segmenter):
    return an_engine(segmenter)
