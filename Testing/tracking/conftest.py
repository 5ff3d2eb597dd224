"""A small model with a memory, and supports that are prepared for it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("sam2")
    from tracking_doubles import tiny_sam2

    return tiny_sam2()


@pytest.fixture
def segmenter(model):
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

    return Segmenter(model, "cpu")


@pytest.fixture
def prepared(segmenter):
    from tracking_doubles import support

    return segmenter.prepare(support())


@pytest.fixture
def memories_read(segmenter, monkeypatch) -> list[tuple[int, list[int]]]:
    """For each frame that is decoded its number, and those of the frames whose memories it reads."""
    read, original = [], segmenter.model.backbone.decode

    def decode(features, prompt, memories=(), frame=0):
        read.append((frame, [memory.frame for memory in memories]))
        return original(features, prompt, memories, frame)

    monkeypatch.setattr(segmenter.model.backbone, "decode", decode)
    return read
