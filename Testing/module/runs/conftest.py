"""The module's logic, whose worker thread ends with the test, and two cases in its scene."""

from __future__ import annotations

import threading

import pytest

from mrml_cases import add_case


@pytest.fixture
def logic(scene):
    from ProxyPromptSegmentModule.logic import SegmentationLogic

    made = SegmentationLogic()
    yield made
    assert made.shutdown(), "the worker thread did not end"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ProxyPrompt")]


@pytest.fixture
def two_cases(scene):
    return add_case(1), add_case(2)
