"""Kinds of image: what DICOM says, and what colour rules out."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.imaging import modality
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.modality import KINDS, can_show, described, shows_colour
from ProxyPromptSegmentLib.imaging.volumes import Volume

GRID = VolumeGeometry((20, 16, 2), (1.0, 1.0, 1.0))


def a_volume(colour=False, tint=0.0):
    array = np.random.default_rng(1).uniform(0, 255, (2, 16, 20)).astype(np.float32)
    if not colour:
        return Volume(array, GRID)
    return Volume(np.stack([array, array * (1 - tint), array], axis=-1), GRID)


@pytest.mark.parametrize("kind", ["endoscopy", "fundus", "dermoscopy", "photograph"])
def test_a_grey_image_cannot_show_what_is_photographed_in_colour(kind):
    assert not can_show(a_volume(), (kind,)) and can_show(a_volume(True, 0.5), (kind,))
    assert can_show(a_volume(), (kind, "CT"))


@pytest.mark.parametrize("kind", ["CT", "MR", "XR", "MG"])
def test_an_image_in_colour_cannot_be_of_a_scanner_unless_it_is_grey_in_truth(kind):
    assert can_show(a_volume(), (kind,)) and not can_show(a_volume(True, 0.5), (kind,))
    assert can_show(a_volume(True), (kind,))


def test_nothing_speaks_against_ultrasound_microscopy_or_a_class_without_modalities():
    for volume in (a_volume(), a_volume(True, 0.5)):
        assert all(can_show(volume, kinds) for kinds in ((), ("US",), ("microscopy",)))


def test_what_dicom_says_counts(monkeypatch):
    monkeypatch.setattr(modality, "modality_of", lambda volume: "MR")
    assert can_show(a_volume(), ("CT", "MR")) and not can_show(a_volume(), ("CT",))
    assert described(a_volume()) == "is MRI"


def test_slightly_tinted_grey_is_grey():
    assert not shows_colour(a_volume(True, 0.02).array) and shows_colour(a_volume(True, 0.5).array)
    assert described(a_volume(True, 0.5)) == "is in colour" and described(a_volume()) == "is grey"
    assert set(KINDS) >= modality.IN_COLOUR | modality.IN_GREY
