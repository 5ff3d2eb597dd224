"""The module's logic on real MRML: nodes in, slices into segments; switch, cancel, undo, deletion, closing."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from mrml_cases import add_case, scene_state, turned
from mrml_scene import add_transform, segment_array

pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without a Slicer application")

from ProxyPromptSegmentLib.errors import ProxyPromptError, SupportError, UsageError
from ProxyPromptSegmentLib.support.matching import slice_names
from ProxyPromptSegmentModule.logic import SegmentationLogic
from ProxyPromptSegmentModule.runs.request import Output, Request, Settings
from ProxyPromptSegmentModule.scene import result_nodes

CPU = Settings(device="cpu")


@pytest.fixture
def logic(scene):
    made = SegmentationLogic()
    yield made
    assert made.shutdown(), "the worker thread did not end"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ProxyPrompt")]


@pytest.fixture
def two_cases(scene):
    return add_case(1), add_case(2)


def expected_masks(target, support, objects=None):
    """What the command line's way gives for the same nodes."""
    from plain_run import run
    from ProxyPromptSegmentLib.inference.job import plan
    from ProxyPromptSegmentLib.inference.loading import load
    from ProxyPromptSegmentLib.support.pairs import MOST_READ
    from ProxyPromptSegmentModule.logic import _case
    from ProxyPromptSegmentModule.scene.nodes import volume_of

    job = plan([_case(support)], volume_of(target)[0], objects)
    return run(load("sam-compact", "cpu").segmenter.reading(MOST_READ), job).segmentation


def stop_after(run, slices):
    """Cancels a run as soon as so many slices are written."""

    def look(seen):
        if len(seen.written) >= slices and not seen.ended:
            seen.cancel()

    run.observe(look)


def test_a_run_gives_the_very_mask_that_the_command_line_gives(logic, two_cases):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    assert run.state == "finished" and run.error == ""
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
    plain = logic.segment(target, [support], settings=CPU)
    whole = segment_array(plain.segmentation, plain.segment_ids["prostate"], target)
    shown = np.flatnonzero(whole.any(axis=(1, 2)))
    gap, segment_part = int(shown[len(shown) // 2]), Segmenter._segment_part

    def doubting(self, *args):
        segment_part(self, *args)
        result = args[6]
        result.presence[gap] = 0
        result.presence[[gap - 1, gap + 1]] = np.minimum(result.presence[[gap - 1, gap + 1]], 0.8)

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


def test_an_image_that_resembles_no_support_is_said_with_what_to_do(logic, two_cases, monkeypatch):
    from ProxyPromptSegmentLib.inference import loading
    from ProxyPromptSegmentLib.inference.calibration import PRESENCE, QUALITY, Calibration

    strict = Calibration(presence=dict.fromkeys(PRESENCE, 1.0), quality=dict.fromkeys(QUALITY, 1.0), unlike=0.5)
    monkeypatch.setattr(loading, "calibration_of", lambda digest: strict)
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


def test_cancel_keeps_the_slices_that_are_done(logic, two_cases):
    support, (target, _truth) = two_cases
    whole = logic.segment(target, [support], settings=CPU)
    request = Request(target=target, cases=whole.request.cases, settings=CPU, output=Output(name="stopped"))
    run = logic.start(request)
    stop_after(run, 6)
    logic.wait(run)
    assert run.state == "cancelled" and 6 <= len(run.written) < 12
    mask = segment_array(run.segmentation, run.segment_ids["prostate"], target)
    done = sorted(run.written)
    complete = segment_array(whole.segmentation, whole.segment_ids["prostate"], target)
    inner = [index for index in done if {index - 1, index + 1} <= set(done)]
    assert inner and np.array_equal(mask[inner], complete[inner])
    assert not np.delete(mask, done, axis=0).any()
    assert run.error == ""


def test_whoever_cancels_again_and_again_still_gets_what_is_done_counted(logic, two_cases):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU, wait=False)
    while not run.ended:
        if run.written:
            run.cancel()
        logic._work()  # more often than the pump does: the last task still waits when the next cancel comes
        time.sleep(0.0005)
    assert run.state == "cancelled" and run.rows and run.record


def test_undo_takes_a_run_back_and_redo_brings_it_again(logic, two_cases):
    support, (target, truth) = two_cases
    before = segment_array(truth, "prostate", target)
    run = logic.segment(target, [support], segmentation=truth, settings=CPU)
    new = run.segment_ids["prostate"]
    assert new != "prostate", "the user's own segment must not be written into"
    found = segment_array(truth, new, target)
    assert run.undo()
    assert np.array_equal(segment_array(truth, "prostate", target), before)
    assert truth.GetSegmentation().GetSegment(new) is None or not segment_array(truth, new, target).any()
    assert run.redo()
    assert np.array_equal(segment_array(truth, run.segment_ids["prostate"], target), found)


def test_a_run_beside_a_surface_makes_it_anew_without_an_error(logic, two_cases, capfd):
    support, (target, _truth) = two_cases
    first = logic.segment(target, [support], settings=CPU)
    assert first.segmentation.CreateClosedSurfaceRepresentation()
    capfd.readouterr()
    second = logic.segment(target, [add_case(3, segment="gland")], segmentation=first.segmentation, settings=CPU)
    told = "".join(capfd.readouterr())
    assert "Convert" not in told and "ERR|" not in told, told
    for segment_id in (first.segment_ids["prostate"], second.segment_ids["gland"]):
        segment = first.segmentation.GetSegmentation().GetSegment(segment_id)
        assert segment.GetRepresentation("Closed surface").GetNumberOfPoints() > 0


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


def test_a_segment_that_nobody_touched_may_be_written_again_and_a_corrected_one_not(logic, two_cases):
    import slicer.util

    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    assert run.destination.untouched() == run.segment_ids
    mask = segment_array(run.segmentation, run.segment_ids["prostate"], target)
    mask[0, :3, :3] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, run.segmentation, run.segment_ids["prostate"], target)
    assert run.destination.untouched() == {}


def test_a_result_that_was_numbered_still_prompts_for_its_object(logic, two_cases):
    from ProxyPromptSegmentModule.scene.nodes import segmentation_of

    support, (target, truth) = two_cases
    run = logic.segment(target, [support], segmentation=truth, settings=CPU)
    made = run.segment_ids["prostate"]
    assert truth.GetSegmentation().GetSegment(made).GetName() == "prostate (2)"
    assert segmentation_of(truth, target, [made])[0].names == ["prostate"]
    assert segmentation_of(truth, target)[0].names == ["prostate", "prostate (2)"], "together they must differ"
    truth.GetSegmentation().GetSegment(made).SetName("prostate (new)")
    assert segmentation_of(truth, target, [made])[0].names == ["prostate (new)"], "somebody has named it"


def test_the_target_is_deleted_in_the_middle(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU, wait=False)
    run.observe(lambda seen: scene.RemoveNode(target) if len(seen.written) == 4 and target.GetScene() else None)
    assert logic.wait(run, 60)
    assert run.state == "cancelled" and "removed" in run.sentences[-1]
    assert len(run.written) < 12


def test_the_segmentation_is_deleted_in_the_middle(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU, wait=False)
    run.observe(
        lambda seen: (
            scene.RemoveNode(seen.segmentation) if len(seen.written) == 4 and seen.segmentation.GetScene() else None
        )
    )
    assert logic.wait(run, 60)
    assert run.state == "cancelled"
    assert logic.segment(target, [support], settings=CPU).state == "finished", "it must work again at once"


def test_the_scene_is_closed_in_the_middle(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU, wait=False)
    while len(run.written) < 3:
        logic.pump.turn()
    scene.Clear(False)
    assert run.state == "cancelled"
    for _ in range(40):  # whatever the worker still says must not reach the empty scene
        logic.pump.turn()
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    again, more = add_case(4), add_case(5)
    assert logic.segment(more[0], [again], settings=CPU).state == "finished"


def test_a_second_run_cancels_the_first(logic, two_cases):
    support, (target, _truth) = two_cases
    first = logic.segment(target, [support], settings=CPU, wait=False)
    second = logic.segment(target, [support], settings=CPU)
    assert first.state == "cancelled" and second.state == "finished"


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


def test_a_fault_on_the_worker_is_told_in_a_sentence_and_the_next_run_works(logic, two_cases, monkeypatch, caplog):
    from ProxyPromptSegmentLib.worker import segment_task

    support, (target, _truth) = two_cases

    def broken(task, engine, context):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(segment_task, "segment", broken)
    with pytest.raises(ProxyPromptError, match="ZeroDivisionError"):
        logic.segment(target, [support], settings=CPU)
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert logic.segment(target, [support], settings=CPU).state == "finished"


def test_a_missing_package_is_told_with_what_to_do(logic, two_cases, monkeypatch):
    from ProxyPromptSegmentLib.worker import segment_task

    support, (target, _truth) = two_cases

    def not_installed(task, engine, context):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(segment_task, "segment", not_installed)
    with pytest.raises(ProxyPromptError, match="'torch'.*Press “Install”"):
        logic.segment(target, [support], settings=CPU)


def test_requests_that_cannot_begin_are_refused_in_words(logic, two_cases):
    support, (target, _truth) = two_cases
    with pytest.raises(UsageError, match="no support"):
        logic.segment(target, [])
    with pytest.raises(UsageError, match="no volume"):
        logic.segment(None, [support])
    with pytest.raises(ProxyPromptError, match="no object named 'liver'"):
        logic.segment(target, [support], ["liver"], settings=CPU)
    assert logic.run.state == "failed"


def test_an_empty_support_is_refused(logic, two_cases, scene):
    import slicer

    (volume, _segmentation), (target, _truth) = two_cases
    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    empty.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    with pytest.raises(SupportError, match="no segments"):
        logic.segment(target, [(volume, empty)], settings=CPU)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 3


def test_the_live_preview_writes_the_newest_slice_and_can_be_taken_back(logic, two_cases):
    from ProxyPromptSegmentModule.logic import _case

    support, (target, _truth) = two_cases
    live = logic.live(Request(target=target, cases=(_case(support),), settings=CPU, first=5))
    until = time.monotonic() + 60
    while live.last_index is None and time.monotonic() < until:
        logic.pump.turn()
    assert live.last_index == 5
    for index in (0, 1, 2, 6):  # scrolling: only the last one is sure to be shown
        logic.show(live, index)
    while not (live.last_index == 6 and live.idle) and time.monotonic() < until:
        logic.pump.turn()
    assert live.idle and {5, 6} <= live.written and not live.written & {0, 1}
    mask = segment_array(live.segmentation, live.segment_ids["prostate"], target)
    assert mask[5].any() and mask[6].any() and not mask[3].any()
    live.close()
    assert logic.wait(live, 60) and live.state == "finished"
    assert live.undo()
    ids = live.segmentation.GetSegmentation().GetSegmentIDs()
    assert all(not segment_array(live.segmentation, one, target).any() for one in ids)


def test_the_why_of_a_point_comes_from_the_support(logic, two_cases):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    mask = segment_array(run.segmentation, run.segment_ids["prostate"], target)
    k, j, i = (int(n.mean()) for n in np.nonzero(mask))
    ras = np.array([i, j, k, 1.0])
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    target.GetIJKToRASMatrix(matrix)
    place = matrix.MultiplyPoint(ras)[:3]
    answers = []
    logic.why(run, place, "prostate", lambda why, sentence: answers.append((why, sentence)))
    until = time.monotonic() + 60
    while not answers and time.monotonic() < until:
        logic.pump.turn()
    why, sentence = answers[0]
    assert sentence == "" and why.index == k and why.shares.sum() == pytest.approx(1, abs=1e-4)
    logic.why(run, (9999.0, 0.0, 0.0), "prostate", lambda why, sentence: answers.append((why, sentence)))
    assert answers[-1][0] is None and "outside" in answers[-1][1]
    assert slicer.mrmlScene is not None


def test_the_estimate_learns_from_a_finished_run(logic, two_cases):
    from ProxyPromptSegmentModule.logic import _case

    support, (target, _truth) = two_cases
    request = Request(target=target, cases=(_case(support),), settings=CPU)
    before = logic.estimate(request)
    assert before.seconds > 0 and before.memory_bytes > 0 and not before.measured
    run = logic.segment(target, [support], settings=CPU)
    after = logic.estimate(request)
    taken = run.result.seconds["segmentation"]
    assert after.measured and taken / 3 < after.seconds < taken * 3
    fewer = logic.estimate(Request(target=target, cases=request.cases, slices=[1, 2], settings=CPU))
    assert fewer.seconds < after.seconds
    larger = logic.estimate(replace(request, settings=Settings(device="cpu", tiles="4")))
    assert after.tiles == 0 and larger.tiles == 25 and larger.seconds > 5 * after.seconds
