"""Nodes that tests of the scene share, on real MRML."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def views(scene):
    """The slice views of a new scene."""
    from widget_cases import add_views

    add_views()


@pytest.fixture
def other(volume):
    """The image of another patient, on the same grid."""
    from mrml_scene import add_volume
    from mrml_writing import AFFINE, SHAPE

    return add_volume(np.zeros(SHAPE, np.float32), AFFINE, "another patient")


@pytest.fixture
def result(volume):
    """A segmentation with the result of one run."""
    from mrml_writing import a_run
    from ProxyPromptSegmentModule.scene.segment_writer import create_segmentation

    made = create_segmentation(volume, "result")
    a_run(made, volume, 1)
    return made
