"""Embedded models and their engine, and a worker thread that ends with the test."""

from __future__ import annotations

import pytest

from ProxyPromptSegmentLib.worker.thread import Worker
from thread_doubles import SOON, FakeEngine


@pytest.fixture(scope="module")
def model():
    from worker_doubles import embedded

    return embedded()


@pytest.fixture(scope="module")
def sam2_model():
    pytest.importorskip("sam2")
    from worker_doubles import embedded

    return embedded("sam2-compact")


@pytest.fixture
def segmenter(model):
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

    return Segmenter(model, "cpu", batch=1)


@pytest.fixture
def engine(segmenter):
    from worker_doubles import an_engine

    return an_engine(segmenter)


@pytest.fixture
def worker():
    FakeEngine.made = []
    made = Worker(FakeEngine)
    yield made
    assert made.stop(SOON)
