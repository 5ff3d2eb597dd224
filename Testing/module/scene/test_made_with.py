"""Which weights made what a run left: slices of each of them, no more once they were rewritten."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

from types import SimpleNamespace

from mrml_scene import add_volume
from mrml_writing import AFFINE, SHAPE, a_run
from ProxyPromptSegmentModule.runs.stored import take_back
from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.dicom_tags import NAME
from ProxyPromptSegmentModule.scene.made_with import EARLIER, with_earlier
from ProxyPromptSegmentModule.scene.owners import result_segments
from ProxyPromptSegmentModule.scene.segment_writer import create_segmentation
from ProxyPromptSegmentModule.scene.terminology import tag_of

pytestmark = pytest.mark.usefixtures("scene")


def record(letter, *earlier):
    kept = [{"name": "m", "sha256": one * 64, "slices": slices} for one, slices in earlier]
    return {"model": {"name": "m", "sha256": letter * 64}, **({EARLIER: kept} if kept else {})}


@pytest.fixture
def result(scene):
    volume = add_volume(np.zeros(SHAPE, np.float32), AFFINE, "MR")
    node = create_segmentation(volume, "result")
    a_run(node, volume, 1)
    return node, volume


def after(result, before, now, left):
    node, volume = result
    result_nodes.write_record(node, json.dumps(before), volume)
    found, said = with_earlier(now, node, volume, left)
    return [(one["sha256"][0], one["slices"]) for one in found.get(EARLIER, [])], said


def test_each_model_keeps_only_the_slices_that_are_left_of_it(result):
    before = record("b", ("a", "5-9"))
    assert after(result, before, record("b"), {1, 8, 9})[0] == [("a", "8-9")]
    assert after(result, before, record("b"), {1, 2})[0] == []
    found, said = after(result, before, record("c"), {1, 8, 9})
    assert found == [("a", "8-9"), ("b", "1")]
    assert "Slices 1 are still those of another model" in said


def test_slices_of_the_present_model_are_not_given_to_another(result):
    found, said = after(result, record("b", ("a", "5-9")), record("a"), {1, 5, 6})
    assert found == [("b", "1")]
    assert "Slices 1 " in said
    assert after(result, record("b", ("a", "5-9")), record("a"), {5, 6}) == ([], "")


def test_undoing_a_run_names_the_model_that_made_what_is_there_again(result):
    node, volume = result
    ids = list(result_segments(node, volume))
    segment = node.GetSegmentation().GetSegment(ids[0])
    segment.SetTag(NAME, "Proxy Prompt m bbbbbbbb")
    run = SimpleNamespace(
        before=("", json.dumps(record("a"))),
        request=SimpleNamespace(target=volume),
        segment_ids={str(n): one for n, one in enumerate(ids)},
    )
    take_back(run, node)
    assert tag_of(segment, NAME) == "Proxy Prompt m aaaaaaaa"
