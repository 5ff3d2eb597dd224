"""A small model of random weights."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def model():
    from engine_doubles import EVERYTHING, tiny_model

    return tiny_model(**EVERYTHING)


@pytest.fixture
def segmenter(model):
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

    return Segmenter(model, "cpu", batch=2)
