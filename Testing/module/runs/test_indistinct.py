"""Structures that come back as one region are named, if the supports keep them apart."""

from __future__ import annotations

import types

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without a Slicer application")

from ProxyPromptSegmentModule.runs.indistinct import sentences


def _support(apart):
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[0, :, :4] = 1
    masks[1, :, 4:] = 1
    if not apart:
        masks[1] = masks[0]
    return types.SimpleNamespace(objects=("inner", "outer"), pairs=(types.SimpleNamespace(masks=masks),))


def _result(overlap):
    masks = np.zeros((3, 2, 8, 8), np.uint8)
    masks[:, 0, 2:6, 2:6] = 1
    masks[:, 1, 2:6, 2 if overlap else 6 : 6 if overlap else 8] = 1
    return masks


def test_zones_that_come_back_as_one_region_are_said():
    (said,) = sentences(_support(apart=True), _result(overlap=True))
    assert said.startswith("‘inner’ and ‘outer’ came back as nearly the same region (Dice 1.00)")


def test_zones_that_are_apart_or_overlap_in_the_supports_as_well_are_not():
    assert sentences(_support(apart=True), _result(overlap=False)) == ()
    assert sentences(_support(apart=False), _result(overlap=True)) == ()
    assert sentences(_support(apart=True), np.zeros((3, 2, 8, 8), np.uint8)) == ()
