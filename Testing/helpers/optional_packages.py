"""Tests of SAM 2 and of adapters are skipped where their packages are missing or PyTorch is too old for them."""

from __future__ import annotations

import importlib.util

import pytest

from ProxyPromptSegmentLib.weights.availability import newer_torch_for

SAM2_HERE = importlib.util.find_spec("sam2") is not None and not newer_torch_for("sam2")
REASON = "SAM 2 is not available here"
needs_sam2 = pytest.mark.skipif(not SAM2_HERE, reason=REASON)


def skip_without(name: str) -> None:
    """Skip the test if a backbone or model of this name needs a SAM 2 that is not available."""
    if name.startswith("sam2") and not SAM2_HERE:
        pytest.skip(REASON)


def skip_without_peft() -> None:
    """Skip what follows where peft is missing; only the library imports it, because it hides torchvision from it."""
    if importlib.util.find_spec("peft") is None:
        pytest.skip("peft is not installed", allow_module_level=True)


# Asked without importing it, which takes ten seconds: each worker would wait for it while tests are looked for.
needs_monai = pytest.mark.skipif(importlib.util.find_spec("monai") is None, reason="monai is not installed")
