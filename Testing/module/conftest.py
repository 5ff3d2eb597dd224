"""Fixtures of tests on real MRML; a test file takes them in with ``from mrml_fixtures import scene``."""

from __future__ import annotations

import numpy as np
import pytest

from mrml_scene import REASON, has_mrml, make_scene


@pytest.fixture
def scene():
    """A fresh real MRML scene, which is `slicer.mrmlScene` too; a skip where slicer-core is missing."""
    if not has_mrml():
        pytest.skip(REASON)
    made = make_scene()
    yield made
    made.Clear(True)


@pytest.fixture
def volume(scene):
    """An image of noise on a turned grid."""
    from mrml_scene import add_volume
    from mrml_writing import AFFINE, SHAPE

    return add_volume(np.random.default_rng(9).normal(size=SHAPE).astype(np.float32), AFFINE, "MR")


@pytest.fixture(autouse=True)
def warm(warm_engine):
    """Engines keep what earlier tests have loaded and embedded."""
