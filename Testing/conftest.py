"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public images with masks, or a skip where it is not there."""
    folder = Path(os.environ.get("PROXYPROMPT_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"the public data sets are not in {folder}; set PROXYPROMPT_DATA to their folder")
    return folder


@pytest.fixture
def encode_calls(segmenter, monkeypatch):
    """How many slices each call of the image encoder of the test's ``segmenter`` had."""
    calls, original = [], segmenter.model.backbone.encode

    def counting(images, valid=None):
        calls.append(len(images))
        return original(images, valid)

    monkeypatch.setattr(segmenter.model.backbone, "encode", counting)
    return calls
