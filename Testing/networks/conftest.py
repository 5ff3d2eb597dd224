"""A small SAM 2 whose memories and pointers show in its answer, and images that it has embedded."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def backbone():
    from sam2_package import lively_backbone

    return lively_backbone()


@pytest.fixture(scope="module")
def features(backbone):
    import torch

    from sam2_package import clouds

    with torch.inference_mode():
        return backbone.encode(clouds(20))
