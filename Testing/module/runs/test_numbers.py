"""The numbers of a result are those of what is in its segments now; they belong to their image, also after a save."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mrml_cases import add_case, cells
from mrml_scene import make_scene, segment_array

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without an application")

from ProxyPromptSegmentModule.runs.request import Output, Settings
from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.facts import CHANGED, result_now
from ProxyPromptSegmentModule.scene.owners import results_of, volume_of_segment

CPU = Settings(device="cpu")


def check_numbers(segmentation, target):
    """Every number of the table node is that of the segment."""
    for row in cells(segmentation):
        found = segmentation.GetSegmentation().GetSegmentIdBySegmentName(row["Object"])
        mask = segment_array(segmentation, found, target)
        shown = np.flatnonzero(mask.any(axis=(1, 2)))
        assert float(row["Voxels"]) == mask.sum() and float(row["Slices"]) == len(shown)
        assert float(row["Volume [ml]"]) == pytest.approx(mask.sum() * np.prod(target.GetSpacing()) / 1000, abs=1e-3)
        assert row["Image"] == target.GetName()
    return cells(segmentation)


def erase(run, target, index):
    found = run.segment_ids["prostate"]
    mask = segment_array(run.segmentation, found, target)
    assert mask[index].any()
    mask[index] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, run.segmentation, found, target)


def largest(run, target):
    return int(np.argmax(segment_array(run.segmentation, run.segment_ids["prostate"], target).sum(axis=(1, 2))))


def test_the_saved_table_follows_a_correction(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    before = check_numbers(run.segmentation, target)
    index = largest(run, target)
    erase(run, target, index)
    logic.results.refresh()
    after = check_numbers(run.segmentation, target)
    assert float(after[0]["Voxels"]) < float(before[0]["Voxels"]) and after[0][CHANGED] == str(index)
    assert index not in [doubt.index for doubt in result_now(run.segmentation, target).doubts]


def test_a_save_does_not_wait_for_the_table(logic, two_cases, scene, tmp_path):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    erase(run, target, largest(run, target))
    (tmp_path / "x").mkdir()
    scene.SetRootDirectory(str(tmp_path / "x"))
    assert scene.WriteToMRB(str(tmp_path / "x.mrb"))
    check_numbers(run.segmentation, target)


def test_a_run_on_some_slices_after_a_whole_one_counts_all_slices(logic, two_cases):
    support, (target, _truth) = two_cases
    whole = logic.segment(target, [support], settings=CPU)
    where = Output(segmentation=whole.segmentation, reuse=True)
    some = logic.segment(target, [support], slices=[5, 6], settings=replace(CPU, threshold=0.6), output=where)
    (row,) = check_numbers(whole.segmentation, target)
    assert float(row["Slices"]) > 2 and some.segment_ids == whole.segment_ids
    assert some.undo()
    check_numbers(whole.segmentation, target)
    assert some.redo()
    check_numbers(whole.segmentation, target)


def test_undo_of_the_second_structure_leaves_the_row_of_the_first(logic, two_cases):
    support, (target, _truth) = two_cases
    first = logic.segment(target, [support], settings=CPU)
    record = result_nodes.record_of(first.segmentation).GetText()
    doubts = result_now(first.segmentation, target).doubts
    second = logic.segment(target, [add_case(3, segment="gland")], segmentation=first.segmentation, settings=CPU)
    assert [row["Object"] for row in cells(first.segmentation)] == ["prostate", "gland"]
    assert second.undo()
    assert [row["Object"] for row in check_numbers(first.segmentation, target)] == ["prostate"]
    assert result_nodes.record_of(first.segmentation).GetText() == record
    assert result_now(first.segmentation, target).doubts == doubts
    assert first.undo() and result_nodes.table_of(first.segmentation) is None


def test_results_of_two_images_in_one_segmentation_keep_apart(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    other, _other_truth = add_case(2, name="another patient")
    first = logic.segment(target, [support], settings=CPU)
    found = segment_array(first.segmentation, first.segment_ids["prostate"], target)
    where = Output(segmentation=first.segmentation, reuse=True)
    second = logic.segment(other, [support], slices=[5], settings=CPU, output=where)
    assert second.segment_ids != first.segment_ids
    assert np.array_equal(segment_array(first.segmentation, first.segment_ids["prostate"], target), found)
    assert [row["Image"] for row in cells(first.segmentation)] == [target.GetName(), "another patient"]
    assert volume_of_segment(first.segmentation, second.segment_ids["prostate"]) is other
    again = logic.segment(other, [support], settings=CPU, output=where)
    assert again.segment_ids == second.segment_ids
    assert np.array_equal(segment_array(first.segmentation, first.segment_ids["prostate"], target), found)
    assert results_of(scene, target) == results_of(scene, other) == [first.segmentation]


def test_each_image_has_a_run_record_of_its_own_in_a_common_segmentation(logic, two_cases, scene):
    support, (target, _truth) = two_cases
    other, _other_truth = add_case(2, name="another patient")
    first = logic.segment(target, [support], settings=CPU)
    where = Output(segmentation=first.segmentation, reuse=True)
    second = logic.segment(other, [support], slices=[5], settings=CPU, output=where)
    node = first.segmentation

    def records():
        found = (result_nodes.record_of(node, one) for one in (target, other))
        return [one.GetText() if one is not None else "" for one in found]

    assert first.record_text != second.record_text and records() == [first.record_text, second.record_text]
    assert second.undo() and records() == [first.record_text, ""]
    assert second.redo() and records() == [first.record_text, second.record_text]


def test_the_name_of_another_patient_s_segmentation_is_not_in_the_run_record(logic, two_cases):
    support, (target, _truth) = two_cases
    other, _other_truth = add_case(2, name="another patient")
    first = logic.segment(target, [support], settings=CPU)
    first.segmentation.SetName("Miller Anna segmentation")
    second = logic.segment(other, [support], settings=CPU, output=Output(segmentation=first.segmentation, reuse=True))
    assert any("already has a segment 'prostate'" in one for one in second.sentences)
    assert "Miller" not in second.record_text


def test_what_is_known_about_a_result_is_there_again_after_loading(logic, two_cases, scene, tmp_path):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    erase(run, target, largest(run, target))
    known = result_now(run.segmentation, target)
    assert known.doubts
    mask, found = segment_array(run.segmentation, run.segment_ids["prostate"], target), run.segment_ids["prostate"]
    (tmp_path / "x").mkdir()
    scene.SetRootDirectory(str(tmp_path / "x"))
    assert scene.WriteToMRB(str(tmp_path / "x.mrb"))
    name, case = target.GetName(), (support[0].GetName(), support[1].GetName())
    logic.shutdown()
    fresh = make_scene()
    assert slicer.app.applicationLogic().OpenSlicerDataBundle(str(tmp_path / "x.mrb"), str(tmp_path))
    from ProxyPromptSegmentModule.logic import SegmentationLogic

    again = SegmentationLogic()
    try:
        target, support = fresh.GetFirstNodeByName(name), tuple(fresh.GetFirstNodeByName(one) for one in case)
        (node,) = results_of(fresh, target)
        now = result_now(node, target)
        assert now.doubts == known.doubts and now.table == known.table
        assert [one.pixels for one in now.states.values()] == [one.pixels for one in known.states.values()]
        changed = known.states[found].changed
        run = again.segment(
            target, [support], settings=replace(CPU, threshold=0.6), output=Output(segmentation=node, reuse=True)
        )
        assert list(run.segment_ids.values()) == [found], "the segment is written again"
        after = segment_array(node, found, target)
        assert np.array_equal(after[list(changed)], mask[list(changed)]) and not np.array_equal(after, mask)
    finally:
        assert again.shutdown()


def test_what_a_run_has_written_is_read_once_and_a_little_at_a_time(logic, two_cases, monkeypatch):
    from ProxyPromptSegmentModule.runs import run as running
    from ProxyPromptSegmentModule.scene import segment_state

    support, (target, _truth) = two_cases
    monkeypatch.setattr(running, "_MOMENT", -1.0)  # one slice, then the window again
    read = []
    planes = segment_state._planes

    def counted(*arguments):
        for plane in planes(*arguments):
            read[-1] += 1
            yield plane

    monkeypatch.setattr(segment_state, "_planes", counted)
    run = logic.segment(target, [support], settings=CPU, wait=False)
    while not run.ended:
        read.append(0)
        logic.pump.turn()  # sleeps, so that the worker gets on
    assert run.state == "finished", run.error
    depth = target.GetImageData().GetDimensions()[2]
    assert max(read) == 1 and sum(read) == depth, "the segment was read in one go, or twice"
    check_numbers(run.segmentation, target)
