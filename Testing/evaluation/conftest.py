"""A model with a memory, of random weights."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def segmenter():
    torch = pytest.importorskip("torch")
    pytest.importorskip("sam2")
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.networks.model import build_model

    torch.manual_seed(3)
    return Segmenter(build_model("sam2-compact"), "cpu")
