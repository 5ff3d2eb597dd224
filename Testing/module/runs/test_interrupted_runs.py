"""Runs on real MRML that do not go as planned: cancelled, taken back, deleted, closed, failed or refused."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from mrml_cases import add_case
from mrml_scene import segment_array
from scripted_worker import ScriptedWorker

pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without a Slicer application")

from ProxyPromptSegmentLib.errors import ProxyPromptError, SupportError, UsageError
from ProxyPromptSegmentModule.runs.request import Output, Request, Settings
from ProxyPromptSegmentModule.scene.facts import read_facts, text_of_facts
from ProxyPromptSegmentModule.scene.nodes import remove_node

CPU = Settings(device="cpu")


def names_in(scene):
    """Names of segmentations and what belongs to them, by class."""
    kinds = ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationDisplayNode", "vtkMRMLTableNode", "vtkMRMLTextNode")
    nodes = [
        (kind, scene.GetNthNodeByClass(n, kind)) for kind in kinds for n in range(scene.GetNumberOfNodesByClass(kind))
    ]
    return sorted((kind, node.GetID()) for kind, node in nodes)


def segments_of(node):
    """The segments of a segmentation."""
    inside = node.GetSegmentation()
    return [inside.GetNthSegment(number) for number in range(inside.GetNumberOfSegments())]


def cases_of(support):
    """A support as a request wants it."""
    from ProxyPromptSegmentModule.runs.for_scripts import case_of

    return (case_of(support),)


def stop_after(run, slices):
    """Cancels a run as soon as so many slices are written."""

    def look(seen):
        if len(seen.written) >= slices and not seen.ended:
            seen.cancel()

    run.observe(look)


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


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_that_is_cancelled_at_any_turn_ends_soon_and_leaves_what_it_has_written_or_nothing(
    logic, two_cases, scene, earlier
):
    """Also beside an earlier result of another structure, in whose segmentation it would have made a segment."""
    logic.worker = ScriptedWorker()
    support, (target, _truth) = two_cases
    output = None
    if earlier:
        other = logic.segment(target, [support], settings=CPU)
        other.segmentation.GetSegmentation().GetNthSegment(0).SetName("another")
        output = Output(segmentation=other.segmentation)
    before, stages = names_in(scene), set()
    for turns in (0, 1, 2, 3, 4, 9, 30):
        request = Request(target=target, cases=cases_of(support), settings=CPU, output=output or Output())
        run = logic.start(request)
        for _turn in range(turns):
            logic._work()
        assert not run.ended
        stages.add((run.state, run.job is not None, bool(run.written), run.result is not None))
        run.cancel()
        more = 0
        while logic._work() or not run.ended:
            more += 1
        assert more < 12, "it is carried out nevertheless"
        assert run.state == "cancelled" and bool(run.rows) == bool(run.written)
        if run.written:
            mask = segment_array(run.segmentation, run.segment_ids["prostate"], target)
            assert set(np.flatnonzero(mask.any(axis=(1, 2)))) == run.written
            assert run.undo()
            if not earlier:
                remove_node(run.segmentation)
        assert names_in(scene) == before
        if earlier:
            assert [one.GetName() for one in segments_of(other.segmentation)] == ["another"]
    assert len(stages) == 5, "waiting, planned, planned and begun, with slices, being counted"


def test_a_run_that_fails_before_its_first_slice_leaves_no_empty_segment(logic, two_cases, scene, monkeypatch):
    from ProxyPromptSegmentModule.runs import run as runs

    support, (target, _truth) = two_cases
    before = names_in(scene)

    def fail(*_args, **_named):
        raise SupportError("no network")

    monkeypatch.setattr(runs.SegmentTask, "__call__", fail)
    run = logic.start(Request(target=target, cases=cases_of(support), settings=CPU))
    logic.wait(run)
    assert run.state == "failed" and "no network" in run.error
    assert names_in(scene) == before and run.segmentation is None


def test_what_was_drawn_into_the_segment_of_a_run_that_ends_before_its_first_slice_stays(logic, two_cases):
    import slicer

    logic.worker = ScriptedWorker()
    support, (target, _truth) = two_cases
    run = logic.start(Request(target=target, cases=cases_of(support), settings=CPU))
    while run.segmentation is None:
        logic._work()
    node, segment_id = run.segmentation, run.segment_ids["prostate"]
    drawn = np.zeros(slicer.util.arrayFromVolume(target).shape, np.uint8)
    drawn[3, 5:9, 5:9] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, segment_id, target)
    run.cancel()
    while logic._work() or not run.ended:
        pass
    assert not run.written and np.array_equal(segment_array(node, segment_id, target), drawn)


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
    again, more = add_case(1), add_case(2)
    assert logic.segment(more[0], [again], settings=CPU).state == "finished"


@pytest.mark.parametrize("when", ["during the run", "after a correction"])
def test_nothing_of_a_closed_scene_is_left_in_the_next_one(logic, two_cases, scene, when):
    from mrml_writing import draw

    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU, wait=when == "after a correction")
    while len(run.written) < 3:
        logic.pump.turn()
    draw(run.segmentation, run.segment_ids["prostate"], target, 2, 1)
    scene.Clear(False)
    logic.results.refresh()
    for kind in ("vtkMRMLTableNode", "vtkMRMLTextNode", "vtkMRMLSegmentationNode"):
        assert scene.GetNumberOfNodesByClass(kind) == 0, "it has the name of the closed case"


def test_a_run_is_stored_before_a_save_and_not_for_every_node(logic, two_cases, scene, tmp_path, monkeypatch):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU, wait=False)
    while len(run.written) < 3:
        logic.pump.turn()
    signed = []
    monkeypatch.setattr(run.destination, "sign", lambda: signed.append(True))
    scene.AddNewNodeByClass("vtkMRMLTextNode")
    assert not signed
    assert scene.WriteToMRB(str(tmp_path / "s.mrb")) and signed
    logic.cancel()
    logic.wait(run)


def test_a_second_run_cancels_the_first(logic, two_cases):
    support, (target, _truth) = two_cases
    first = logic.segment(target, [support], settings=CPU, wait=False)
    second = logic.segment(target, [support], settings=CPU)
    assert first.state == "cancelled" and second.state == "finished"


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


def test_what_was_known_of_slices_is_forgotten_where_a_failed_run_has_written_them(logic, two_cases):
    support, (target, _truth) = two_cases
    first = logic.segment(target, [support], settings=CPU)
    known = text_of_facts(first.segmentation, target)
    output = Output(segmentation=first.segmentation, reuse=True)
    run = logic.start(Request(target=target, cases=first.request.cases, settings=CPU, output=output))

    def fail(seen):
        if len(seen.written) >= 4 and not seen.ended:
            seen.cancel()
            seen._pending.clear()
            seen._fail(UsageError("a fault"))

    run.observe(fail)
    logic.wait(run)
    assert run.state == "failed"
    facts, before = read_facts(first.segmentation, target), json.loads(known)
    for segment_id, values in facts.confidence.items():
        assert not set(values) & run.written
        assert len(values) + len(run.written) == len(before["confidence"][segment_id])
    assert not [one for found in facts.doubts.values() for one in found if one.index in run.written]
    assert run.undo()
    assert text_of_facts(first.segmentation, target) == known


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
