"""Each result says which weights made it; slices of other weights in the same result are named, also after a load."""

from __future__ import annotations

import json

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without an application")

from mrml_scene import segment_array
from ProxyPromptSegmentModule.runs.request import Output, Settings
from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.made_with import EARLIER, earlier_models, made_with

CPU = Settings(device="cpu")
OTHER = "5740eca0ae89ff4b54bef532810f103ceaf49844702ca9eac7b8d042a3ef1131"


def pretend_earlier(run, target, digest=OTHER):
    """Store that other weights made a result."""
    node = result_nodes.record_of(run.segmentation, target)
    record = json.loads(node.GetText())
    record["model"]["sha256"] = digest
    node.SetText(json.dumps(record))


def shown(run, target):
    mask = segment_array(run.segmentation, run.segment_ids["prostate"], target)
    return [int(n) for n in mask.any(axis=(1, 2)).nonzero()[0]]


def test_slices_of_other_weights_are_named_and_stay_named(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    first = logic.segment(target, [support], settings=CPU)
    now = made_with(first.segmentation, target)
    assert now.sha256 == first.result.model.sha256
    assert not earlier_models(first.segmentation, target)
    pretend_earlier(first, target)
    part = shown(first, target)[:2]
    again = logic.segment(target, [support], slices=part, settings=CPU, output=Output(segmentation=first.segmentation))
    said = " ".join(again.sentences)
    assert "those of another model, sam-compact (5740eca0)" in said
    ((before, slices),) = earlier_models(again.segmentation, target)
    assert before.sha256 == OTHER
    assert slices
    assert made_with(again.segmentation, target).sha256 == now.sha256
    third = logic.segment(target, [support], slices=part, settings=CPU, output=Output(segmentation=first.segmentation))
    assert earlier_models(third.segmentation, target) == [(before, slices)]
    assert EARLIER in json.loads(third.record_text)


def test_a_whole_run_with_other_weights_leaves_nothing_to_name(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    first = logic.segment(target, [support], settings=CPU)
    pretend_earlier(first, target)
    output = Output(segmentation=first.segmentation, reuse=True)
    again = logic.segment(target, [support], settings=CPU, output=output)
    assert "another model" not in " ".join(again.sentences)
    assert not earlier_models(again.segmentation, target)


def test_a_segment_of_other_weights_beside_the_new_one_is_named(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    first = logic.segment(target, [support], settings=CPU)
    pretend_earlier(first, target)
    again = logic.segment(target, [support], settings=CPU, output=Output(segmentation=first.segmentation))
    assert again.segment_ids != first.segment_ids
    assert "another model" in " ".join(again.sentences)
    ((before, _slices),) = earlier_models(again.segmentation, target)
    assert before.sha256 == OTHER
    assert again.undo()
    assert made_with(again.segmentation, target).sha256 == OTHER


def test_a_damaged_record_names_no_model(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    for text in ("[", "[]", '{"model": {"name": 3}}', '{"model": null}'):
        result_nodes.record_of(run.segmentation, target).SetText(text)
        assert made_with(run.segmentation, target) is None
        assert earlier_models(run.segmentation, target) == []


def test_the_record_is_a_table_that_is_made_again_and_not_saved(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    record = result_nodes.record_of(run.segmentation, target)
    table = result_nodes.record_table_of(record)
    rows = {table.GetCellText(n, 0): table.GetCellText(n, 1) for n in range(table.GetNumberOfRows())}
    assert rows["Model: name"] == "sam-compact"
    assert rows["State"] == "complete"
    assert not table.GetSaveWithScene()
    assert result_nodes.record_table_of(record) is table
    assert result_nodes.table_of(run.segmentation) is not table
    record.SetText("no JSON")
    assert result_nodes.record_table_of(record) is None
