"""The module's logic on real MRML: nodes in, slices into segments, and what is left in the scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mrml_cases import add_case, scene_state, turned
from mrml_scene import add_transform, segment_array

pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without a Slicer application")

from ProxyPromptSegmentLib.support.matching import slice_names
from ProxyPromptSegmentModule.runs.request import Output, Request, Settings
from ProxyPromptSegmentModule.scene import result_nodes

CPU = Settings(device="cpu")


def expected_masks(target, support, objects=None):
    """What the command line's way gives for the same nodes."""
    from plain_run import run
    from ProxyPromptSegmentLib.inference.helps import REGISTER
    from ProxyPromptSegmentLib.inference.job import plan
    from ProxyPromptSegmentLib.inference.loading import load
    from ProxyPromptSegmentLib.support.pairs import MOST_READ
    from ProxyPromptSegmentModule.runs.for_scripts import case_of as _case
    from ProxyPromptSegmentModule.scene.nodes import volume_of

    job = plan([_case(support)], volume_of(target)[0], objects, register=REGISTER)
    return run(load("sam-compact", "cpu").segmenter.reading(MOST_READ), job, closer=True).segmentation


def test_a_run_gives_the_very_mask_that_the_command_line_gives(logic, two_cases):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    assert run.state == "finished" and run.error == ""
    assert run.forecast.seconds == run.result.forecast.seconds, "what the panel shows while it runs"
    expected = expected_masks(target, support)
    assert expected.segments[0].mask.any()
    found = segment_array(run.segmentation, run.segment_ids["prostate"], target)
    assert np.array_equal(found, expected.segments[0].mask)


def test_a_run_that_finds_nothing_is_finished_and_says_so(logic, two_cases):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=replace(CPU, threshold=0.9999))
    assert run.state == "finished" and run.error == "" and run.nothing_found
    assert run.record["nothing_found"] is True and run.record["state"] == "complete"
    assert not segment_array(run.segmentation, run.segment_ids["prostate"], target).any()
    assert not logic.segment(target, [support], settings=CPU).nothing_found


def test_a_gap_is_filled_and_named_and_stays_empty_if_asked_for(logic, two_cases, monkeypatch):
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

    support, (target, _truth) = two_cases
    plain = logic.segment(target, [support], settings=replace(CPU, fill_gaps=False))
    areas = segment_array(plain.segmentation, plain.segment_ids["prostate"], target).sum(axis=(1, 2))
    gap = 1 + int(np.minimum(areas[:-2], areas[2:]).argmax())  # between the largest neighbours
    segment_part = Segmenter._segment_part

    def doubting(self, *args):
        segment_part(self, *args)
        result = args[6]
        result.presence[gap] = 0
        result.presence[[gap - 1, gap + 1]] = np.minimum(result.presence[[gap - 1, gap + 1]], 0.95)

    monkeypatch.setattr(Segmenter, "_segment_part", doubting)
    kept = logic.segment(target, [support], settings=replace(CPU, fill_gaps=False))
    array = segment_array(kept.segmentation, kept.segment_ids["prostate"], target)
    name = kept.job and slice_names(kept.job.target, kept.job.view.axis).name(gap)
    assert not array[gap].any() and array[gap - 1].any() and array[gap + 1].any()
    assert any(f"'prostate' is empty on {name}, between others" in sentence for sentence in kept.sentences)
    assert kept.record["settings"]["fill_gaps"] is False
    filled = logic.segment(target, [support], settings=CPU)
    array = segment_array(filled.segmentation, filled.segment_ids["prostate"], target)
    assert array[gap].any()
    (said,) = [sentence for sentence in filled.sentences if "filled in" in sentence]
    assert f"on {name}:" in said and "Without “Fill gaps” such slices stay empty." in said
    assert any(doubt.index == gap and "filled in" in doubt.reason for doubt in filled.doubts)


def test_tiles_that_are_asked_for_are_used_and_recorded_and_the_user_is_informed(logic, two_cases):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=Settings(device="cpu", tiles="2"), slices=[5])
    assert run.state == "finished" and run.result.tiles.plan.magnification == 2
    assert "Choose otherwise under “Tiles”." in run.sentences[-1] and "9 overlapping tiles" in run.sentences[-1]
    assert run.record["settings"]["tiles"] == "2" and run.record["tiles"]["tiles_per_slice"] == 9
    live = logic.live(Request(target=target, cases=run.request.cases, settings=run.request.settings, first=5))
    logic.pump.turn()
    live.close()
    assert logic.wait(live, 60) and live.state == "finished"
    wrong = logic.segment(target, [support], settings=Settings(device="cpu", tiles="many"), wait=False)
    assert logic.wait(wrong, 60) and "allowed are auto, off, on" in wrong.error


def test_supports_are_chosen_for_each_slice_and_the_run_says_so(logic, two_cases):
    support, (target, _truth) = two_cases
    chosen = logic.segment(target, [support], settings=replace(CPU, most_read=2))
    every = logic.segment(target, [support], settings=replace(CPU, most_read=None))
    count = len(chosen.job.support.pairs)
    assert count > 2 and chosen.record["settings"]["most_read"] == 2 and every.record["settings"]["most_read"] is None
    (said,) = [sentence for sentence in chosen.sentences if "most like it" in sentence]
    assert said.startswith(f"Each slice is prompted by those 2 of the {count} support slices that are most like it.")
    assert "“Choose supports for each slice”" in said
    assert not any("most like it" in sentence for sentence in every.sentences)
    assert np.abs(chosen.result.result.probability - every.result.result.probability).max() > 1e-4


@pytest.mark.cold
def test_an_image_that_resembles_no_support_is_said_with_what_to_do(logic, two_cases, monkeypatch):
    from ProxyPromptSegmentLib.inference import loading
    from ProxyPromptSegmentLib.inference.calibration import PRESENCE, QUALITY, Calibration

    strict = Calibration(presence=dict.fromkeys(PRESENCE, 1.0), quality=dict.fromkeys(QUALITY, 1.0), unlike=0.5)
    monkeypatch.setattr(loading, "calibration_of", lambda digest, metadata: strict)
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    assert run.state == "finished" and run.nothing_found
    (said,) = [sentence for sentence in run.sentences if "resembles" in sentence]
    assert said.startswith("Nothing in this image resembles the support: the nearest slice is at a distance of ")
    assert said.endswith("“Suggest for this target” ranks those of the library.")


def test_name_colour_and_place_come_from_the_support(logic, two_cases):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    segment = run.segmentation.GetSegmentation().GetSegment(run.segment_ids["prostate"])
    assert segment.GetName() == "prostate" and segment.GetColor() == pytest.approx((0.2, 0.7, 0.3))
    reference = run.segmentation.GetNodeReferenceID(run.segmentation.GetReferenceImageGeometryReferenceRole())
    assert reference == target.GetID()


def test_supports_and_target_are_not_changed(logic, two_cases, scene):
    before = scene_state(scene)
    run = logic.segment(two_cases[1][0], [two_cases[0]], settings=CPU)
    after = scene_state(scene)
    assert {node: after[node] for node in before} == before
    new = {after[node][0] for node in after.keys() - before.keys()}
    assert new <= {
        "vtkMRMLSegmentationNode", "vtkMRMLSegmentationDisplayNode", "vtkMRMLTableNode", "vtkMRMLTextNode",
        "vtkMRMLSegmentationStorageNode", "vtkMRMLTableStorageNode", "vtkMRMLTextStorageNode", "vtkMRMLColorTableNode",
    }, new  # fmt: skip
    assert run.state == "finished"


def test_a_volume_below_a_transform_is_right_to_the_voxel(logic, scene):
    support, (plain, _truth) = add_case(1), add_case(2)
    transform = add_transform(turned(5))
    target, _other = add_case(2, name="askew", parent=transform)
    straight = logic.segment(plain, [support], settings=CPU)
    askew = logic.segment(target, [support], settings=CPU)
    one = segment_array(straight.segmentation, straight.segment_ids["prostate"], plain)
    two = segment_array(askew.segmentation, askew.segment_ids["prostate"], target)
    assert one.any() and np.array_equal(one, two)
    assert askew.segmentation.GetTransformNodeID() == transform.GetID()


def test_only_the_slices_asked_for_are_written(logic, two_cases):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], slices=[5, 6], settings=CPU)
    mask = segment_array(run.segmentation, run.segment_ids["prostate"], target)
    assert mask[5:7].any() and not mask[:5].any() and not mask[7:].any()
    assert run.written == {5, 6}


@pytest.mark.slow  # the engine's own test, worker/test_engine.py, runs each time
@pytest.mark.cold
def test_another_support_runs_on_what_is_embedded(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    other = add_case(3, segment="gland")
    first = logic.segment(target, [support], settings=CPU)
    second = logic.segment(target, [other], settings=CPU, segmentation=first.segmentation)
    assert first.result.embedded == 12 and second.result.embedded == 0
    ids = list(first.segmentation.GetSegmentation().GetSegmentIDs())
    assert len(ids) == 2 and set(second.segment_ids) == {"gland"}
    kept = segment_array(first.segmentation, first.segment_ids["prostate"], target)
    assert np.array_equal(kept, expected_masks(target, support).segments[0].mask)


def test_the_next_run_writes_the_same_segment_again_except_where_it_was_corrected(logic, two_cases):
    import slicer.util

    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    found = run.segment_ids["prostate"]
    mask = segment_array(run.segmentation, found, target)
    mask[0, :3, :3] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, run.segmentation, found, target)
    again = logic.segment(
        target,
        [support],
        settings=replace(CPU, threshold=0.6),
        output=Output(segmentation=run.segmentation, reuse=True),
    )
    assert again.segment_ids == run.segment_ids
    assert run.segmentation.GetSegmentation().GetNumberOfSegments() == 1
    now = segment_array(run.segmentation, found, target)
    assert np.array_equal(now[0], mask[0]) and not np.array_equal(now[1:], mask[1:])
    assert "Changed by hand and left as they are, slices of prostate: 0." in again.sentences


def test_a_result_that_was_numbered_still_prompts_for_its_object(logic, two_cases):
    from ProxyPromptSegmentModule.scene.masks import segmentation_of

    support, (target, truth) = two_cases
    run = logic.segment(target, [support], segmentation=truth, settings=CPU)
    made = run.segment_ids["prostate"]
    assert truth.GetSegmentation().GetSegment(made).GetName() == "prostate (2)"
    assert segmentation_of(truth, target, [made])[0].names == ["prostate"]
    assert segmentation_of(truth, target)[0].names == ["prostate", "prostate (2)"], "together they must differ"
    truth.GetSegmentation().GetSegment(made).SetName("prostate (new)")
    assert segmentation_of(truth, target, [made])[0].names == ["prostate (new)"], "somebody has named it"


def test_table_and_record_are_left_in_the_scene_and_say_what_was_done(logic, two_cases):
    import json

    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    mask = segment_array(run.segmentation, run.segment_ids["prostate"], target)
    millilitres = mask.sum() * np.prod(target.GetSpacing()) / 1000
    assert run.rows[0]["Volume"] == pytest.approx(millilitres, rel=1e-2)
    table = result_nodes.table_of(run.segmentation)
    assert table.GetNumberOfRows() == 1 and table.GetColumnName(1) == "Volume [ml]"
    assert float(table.GetCellText(0, 1)) == pytest.approx(millilitres, rel=1e-2)
    record = json.loads(result_nodes.record_of(run.segmentation).GetText())
    assert record["model"]["sha256"] == run.result.model.sha256
    assert record["research_use_only"] is True
    assert "pelvis" not in json.dumps(record), "names of cases may be names of patients"
    assert run.doubts and 0 <= run.doubts[0].index < 12
    assert run.undo() and not run.undo()
    assert result_nodes.table_of(run.segmentation) is result_nodes.record_of(run.segmentation) is None
    assert run.redo() and result_nodes.table_of(run.segmentation).GetNumberOfRows() == 1
