"""Runs without a support on real MRML: the model knows the structure by its name."""

from __future__ import annotations

import time

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without an application")

from mrml_cases import cells, scene_state
from mrml_scene import segment_array
from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentModule.runs.request import Output, Request, Settings
from ProxyPromptSegmentModule.scene.modality import MODALITY
from ProxyPromptSegmentModule.scene.owners import result_segments
from ProxyPromptSegmentModule.scene.result_nodes import table_of
from ProxyPromptSegmentModule.scene.terminology import TAG, tag_of

CPU = Settings(device="cpu")


@pytest.fixture
def target(two_cases):
    return two_cases[1][0]


def test_a_class_is_segmented_with_its_code_and_slicers_colour(logic, target):
    run = logic.segment_by_class(target, "prostate", settings=CPU, slices=range(4, 8))
    assert run.state == "finished" and run.request.settings.model == "classes-compact"
    segment = run.segmentation.GetSegmentation().GetSegment(run.segment_ids["prostate"])
    assert "SCT^41216001^Prostate" in tag_of(segment, TAG)
    assert np.allclose(segment.GetColor(), [230 / 255, 158 / 255, 140 / 255], atol=0.002)
    assert list(result_segments(run.segmentation, target).values()) == ["prostate"]
    assert run.record["inputs"]["supports"] == [] and run.rows and run.record_text
    again = logic.segment_by_class(target, "41216001", settings=CPU, slices=[5])  # its code
    mask = segment_array(again.segmentation, again.segment_ids["prostate"], target)
    assert mask[5].any() or again.nothing_found


def test_a_class_that_the_image_cannot_show_is_answered_with_nothing_and_a_sentence(logic, target):
    target.SetAttribute(MODALITY, "MR")
    run = logic.segment_by_class(target, ["polyp", "prostate"], settings=CPU, slices=[4, 5])
    (said,) = [one for one in run.sentences if "'polyp' shows in endoscopy" in one]
    assert "is MRI" in said and "Choose a structure that this kind of image shows." in said
    assert not segment_array(run.segmentation, run.segment_ids["polyp"], target).any()
    asked = logic.segment_by_class(target, "polyp", settings=CPU, slices=[4], any_modality=True)
    assert not any("shows in endoscopy" in one for one in asked.sentences)


def test_a_class_that_nobody_knows_names_the_nearest(logic, target):
    with pytest.raises(ProxyPromptError, match="does not know|knows the class 'prostat'.*prostate"):
        logic.segment_by_class(target, "prostat", settings=CPU)
    with pytest.raises(ProxyPromptError, match="knows 24 classes; name those to segment: prostate,"):
        logic.segment_by_class(target, model="classes-compact")
    with pytest.raises(ProxyPromptError, match="knows no classes"):
        logic.segment_by_class(target, "prostate", model="sam-compact")
    with pytest.raises(ProxyPromptError, match="no class to segment"):
        logic.segment_by_class(target)


def test_a_structure_model_is_named_and_needs_nothing_else(logic, target):
    run = logic.segment_by_class(target, model="autosam-polyp", settings=CPU, slices=[5], any_modality=True)
    assert run.state == "finished" and list(run.segment_ids) == ["polyp"]
    assert run.request.settings.model == "autosam-polyp" and run.record["model"]["name"] == "autosam-polyp"


def test_a_model_that_was_removed_meanwhile_ends_the_run_with_a_sentence(logic, target):
    from ProxyPromptSegmentModule.runs.request import class_choice

    _model, found = class_choice(["prostate"])
    gone = Settings(model="my-removed-model", device="cpu")
    run = logic.start(Request(target=target, classes=found, objects=("prostate",), settings=gone))
    assert logic.wait(run, 60) and run.state == "failed" and "there is no model 'my-removed-model'" in run.error
    assert logic.segment_by_class(target, "prostate", settings=CPU, slices=[5]).state == "finished"


def test_the_live_preview_of_a_class_and_its_estimate_need_no_support(logic, target):
    from ProxyPromptSegmentModule.runs.request import class_choice

    model, found = class_choice(["prostate"])
    request = Request(target=target, classes=found, objects=("prostate",), settings=Settings(model=model, device="cpu"))
    assert logic.estimate(request).seconds > 0
    live = logic.live(Request(**{**vars(request), "first": 5}))
    until = time.monotonic() + 60
    while live.last_index is None and time.monotonic() < until:
        logic.pump.turn()
    live.close()
    assert logic.wait(live, 60) and live.state == "finished" and live.written == {5}


def test_a_run_of_a_class_is_undone_and_hand_work_in_it_stays(logic, target):
    run = logic.segment_by_class(target, "prostate", settings=CPU, slices=[4, 5])
    segment_id = run.segment_ids["prostate"]
    mask = segment_array(run.segmentation, segment_id, target)
    mask[5] = 0
    mask[5, 10:14, 10:14] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, run.segmentation, segment_id, target)
    output = Output(segmentation=run.segmentation, reuse=True)
    again = logic.segment_by_class(target, "prostate", settings=CPU, slices=[4, 5], output=output)
    assert again.segment_ids == run.segment_ids
    assert np.array_equal(segment_array(again.segmentation, segment_id, target)[5], mask[5])
    assert any("Changed by hand and left as they are" in one for one in again.sentences)
    assert again.undo() and np.array_equal(segment_array(again.segmentation, segment_id, target)[5], mask[5])


def test_cancel_keeps_what_a_class_run_has_done_and_touches_no_other_patient(logic, two_cases, scene):
    (other, truth), (target, _truth) = two_cases
    earlier = logic.segment_by_class(other, "prostate", settings=CPU, slices=[4, 5])
    mask = segment_array(earlier.segmentation, earlier.segment_ids["prostate"], other)
    mask[4, 2:6, 2:6] = 1  # and something by hand
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, earlier.segmentation, earlier.segment_ids["prostate"], other)
    logic.results.refresh()
    table = table_of(earlier.segmentation)  # it may be written again, with the same rows
    rows, before = cells(earlier.segmentation), scene_state(scene, leaving_out=(table.GetID(),))
    run = logic.segment_by_class(target, "prostate", settings=CPU, wait=False)
    run.observe(lambda seen: seen.cancel() if {4, 5} <= set(seen.written) and not seen.ended else None)
    assert logic.wait(run, 60) and run.state == "cancelled" and not run.error
    assert {4, 5} <= set(run.written) and len(run.written) < 12 and run.rows and run.record["inputs"]["supports"] == []
    found = segment_array(run.segmentation, run.segment_ids["prostate"], target)
    assert found.any() and not np.delete(found, sorted(run.written), axis=0).any()
    assert run.segmentation is not earlier.segmentation and result_segments(run.segmentation, other) == {}
    after = scene_state(scene)
    assert {one: after[one] for one in before} == before, "something of another patient was touched"
    assert cells(earlier.segmentation) == rows
    assert np.array_equal(segment_array(earlier.segmentation, earlier.segment_ids["prostate"], other), mask)
    output = Output(segmentation=run.segmentation, reuse=True)
    whole = logic.segment_by_class(target, "prostate", settings=CPU, output=output)
    assert whole.segment_ids == run.segment_ids and len(whole.written) == 12
    complete = segment_array(whole.segmentation, whole.segment_ids["prostate"], target)
    done = sorted(run.written)
    inner = [index for index in done if {index - 1, index + 1} <= set(done)]
    assert inner and np.array_equal(found[inner], complete[inner])
