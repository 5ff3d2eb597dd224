"""Marks by hand answered by the real worker on real MRML: live, undone, corrected, and everything at once."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without an application")

from mark_cases import click, draw_box, middle_of
from mrml_scene import segment_array
from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice
from ProxyPromptSegmentModule.runs.for_scripts import case_of
from ProxyPromptSegmentModule.runs.request import Output, Request, Settings
from ProxyPromptSegmentModule.scene import hand_marks
from ProxyPromptSegmentModule.scene.marks_said import said_by
from ProxyPromptSegmentModule.scene.owners import result_segments
from ProxyPromptSegmentModule.scene.slice_views import show_only_own

CPU = Settings(device="cpu", register=False)
MIDDLE = 6


@pytest.fixture
def target(two_cases):
    return two_cases[1][0]


@pytest.fixture
def organ(two_cases):
    volume, truth = two_cases[1]
    return segment_array(truth, "prostate", volume)


def start(logic, target, objects=("object",), **more):
    request = Request(target=target, objects=objects, settings=CPU, first=MIDDLE, **more)
    run = logic.hand(request, lambda: said_by(slicer.mrmlScene, target, "k"))
    return run


def answer(logic, run):
    """Let a run answer what the marks say, and return the seconds that it took."""
    logic.look(run)
    begin = time.perf_counter()
    while not run.idle and time.perf_counter() - begin < 60:
        logic.pump.turn()
    assert run.idle and not run.error, run.error
    return time.perf_counter() - begin


def mask_of(run, target, name="object"):
    return segment_array(run.segmentation, run.segment_ids[name], target)


def test_clicks_are_answered_slice_by_slice_and_undone_together(logic, target, organ):
    run = start(logic, target)
    answer(logic, run)
    assert run.segmentation is None  # nothing is made before something is said
    i, j, k = middle_of(organ, MIDDLE)
    click(target, (i, j, k))
    answer(logic, run)
    first = mask_of(run, target)
    assert first[MIDDLE, int(j), int(i)] == 1 and not np.delete(first, MIDDLE, axis=0).any()
    click(target, (i, j, k), "outside")
    answer(logic, run)
    assert mask_of(run, target)[MIDDLE, int(j), int(i)] == 0
    click(target, middle_of(organ, MIDDLE + 1))
    answer(logic, run)
    assert set(np.flatnonzero(mask_of(run, target).any(axis=(1, 2)))) <= {MIDDLE, MIDDLE + 1}
    assert run.written == {MIDDLE, MIDDLE + 1}
    run.close()
    assert logic.wait(run, 60) and run.state == "finished"
    assert run.rows and run.record["inputs"]["supports"] == []
    assert len(run.record["settings"]["point"]) == 3 and run.record["settings"]["point"][1].endswith(",-")
    assert list(result_segments(run.segmentation, target).values()) == ["object"]
    shown = mask_of(run, target)
    assert run.undo() and not run.segmentation.GetSegmentation().GetNumberOfSegments()
    assert run.redo() and np.array_equal(mask_of(run, target), shown)


def test_a_further_click_is_answered_in_under_a_second(logic, target, organ):
    run = start(logic, target)
    i, j, k = middle_of(organ, MIDDLE)
    click(target, (i, j, k))
    answer(logic, run)
    took = []
    for step in (1, 2, 3):
        click(target, (i + step, j, k))
        took.append(answer(logic, run))
    assert min(took) < 1


def test_a_slice_without_marks_becomes_what_it_was_before(logic, target, organ):
    place = middle_of(organ, MIDDLE)
    run = start(logic, target)
    node = click(target, place)
    answer(logic, run)
    assert mask_of(run, target).any()
    slicer.mrmlScene.RemoveNode(node)  # while the run works
    answer(logic, run)
    assert not mask_of(run, target).any() and run.written == set()
    run.close()
    assert logic.wait(run, 60) and run.state == "finished" and run.table is None


def test_a_click_on_one_object_leaves_the_others_on_its_slice(logic, target, organ):
    i, j, k = middle_of(organ, MIDDLE)
    run = start(logic, target, ("a", "b"))
    first = click(target, (i, j, k), name="a")
    other = click(target, (4, 4, k), name="b")
    answer(logic, run)
    run.close()
    assert logic.wait(run, 60)
    shown = mask_of(run, target, "b")
    assert shown[MIDDLE].any()
    slicer.mrmlScene.RemoveNode(other)  # the marks of b are cleared, and its result is kept
    again = start(logic, target, ("a", "b"), output=Output(segmentation=run.segmentation, reuse=True))
    click(target, (i + 2, j, k), "outside", "a")
    answer(logic, again)
    assert again.segment_ids == run.segment_ids and np.array_equal(mask_of(again, target, "b"), shown)
    added = click(target, (40, 40, k), name="b")
    answer(logic, again)
    assert not np.array_equal(mask_of(again, target, "b"), shown)
    slicer.mrmlScene.RemoveNode(added)
    answer(logic, again)
    assert np.array_equal(mask_of(again, target, "b"), shown) and first.GetNumberOfControlPoints() == 1


def test_only_outside_is_not_answered_and_said(logic, target, organ):
    run = start(logic, target)
    click(target, middle_of(organ, MIDDLE), "outside")
    answer(logic, run)
    assert run.segmentation is None and "press Inside and click into it" in run.sentences[-1]
    click(target, middle_of(organ, MIDDLE))
    answer(logic, run)
    assert mask_of(run, target).shape and not any("press Inside" in one for one in run.sentences)


def test_a_box_is_answered_on_the_slices_that_it_spans(logic, target, organ):
    draw_box(target, (14, 14, MIDDLE - 1.2), (34, 34, MIDDLE + 1.2))
    run = start(logic, target)
    answer(logic, run)
    assert run.written == {MIDDLE - 1, MIDDLE, MIDDLE + 1}


def test_hand_work_is_never_overwritten_by_clicks_and_that_is_said(logic, target, organ):
    place = middle_of(organ, MIDDLE)
    run = start(logic, target)
    click(target, place)
    answer(logic, run)
    drawn = mask_of(run, target)
    drawn[MIDDLE, :4] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, run.segmentation, run.segment_ids["object"], target)
    click(target, (place[0] + 2, place[1], place[2]))
    answer(logic, run)
    assert np.array_equal(mask_of(run, target), drawn)
    assert any("was changed by hand and stays as it is" in one for one in run.sentences)
    run.close()
    assert logic.wait(run, 60)
    run.undo()
    assert np.array_equal(mask_of(run, target), drawn)


def test_clicks_correct_the_result_of_a_support_on_one_slice(logic, two_cases, target, organ):
    support = case_of(two_cases[0])
    base = logic.segment(target, [support], settings=CPU)
    before = segment_array(base.segmentation, base.segment_ids["prostate"], target)
    i, j, k = middle_of(before, MIDDLE)
    click(target, (i, j, k), "outside", "prostate")
    output = Output(segmentation=base.segmentation, reuse=True)
    run = start(logic, target, ("prostate",), cases=(support,), output=output)
    answer(logic, run)
    after = segment_array(run.segmentation, run.segment_ids["prostate"], target)
    assert run.segment_ids == base.segment_ids and after[MIDDLE, int(j), int(i)] == 0 < before[MIDDLE, int(j), int(i)]
    assert np.array_equal(np.delete(after, MIDDLE, 0), np.delete(before, MIDDLE, 0))
    run.close()
    assert logic.wait(run, 60) and run.undo()
    assert np.array_equal(segment_array(base.segmentation, base.segment_ids["prostate"], target), before)


def test_marks_on_what_is_segmented_in_tiles_are_left_out_of_a_run_and_that_is_said(logic, two_cases, target, organ):
    click(target, middle_of(organ, MIDDLE), "outside", "prostate")
    tiled = replace(CPU, tiles="2")
    said = logic.said_by_marks(target)
    run = logic.segment_by_hand(target, said, supports=[two_cases[0]], slices=[MIDDLE], settings=tiled)
    assert run.state == "finished" and any("Marks on prostate were left out" in one for one in run.sentences)


def test_what_is_marked_and_not_drawn_is_said(logic, target, organ):
    click(target, middle_of(organ, MIDDLE))
    request = Request(target=target, objects=("object",), settings=replace(CPU, threshold=0.9999), first=MIDDLE)
    run = logic.hand(request, lambda: said_by(slicer.mrmlScene, target, "k"))
    answer(logic, run)
    assert not mask_of(run, target).any()
    assert f"On slice {MIDDLE} the model draws nothing of “object” there" in run.sentences[-1]


def test_clicks_correct_the_result_of_a_class(logic, target, organ):
    from ProxyPromptSegmentModule.runs.request import class_choice

    model, classes = class_choice(["prostate"])
    i, j, k = middle_of(organ, MIDDLE)
    click(target, (i, j, k), "inside", "prostate")
    settings = Settings(device="cpu", model=model)
    request = Request(target=target, classes=classes, objects=("prostate",), settings=settings, first=MIDDLE)
    run = logic.hand(request, lambda: said_by(slicer.mrmlScene, target, "k"))
    answer(logic, run)
    found = segment_array(run.segmentation, run.segment_ids["prostate"], target)
    assert found[MIDDLE, int(j), int(i)] == 1 and run.written == {MIDDLE}


@pytest.mark.parametrize("what", ["target", "scene", "segmentation"])
def test_what_is_deleted_while_marks_are_answered_ends_the_run_with_a_sentence(logic, target, organ, what):
    run = start(logic, target)
    click(target, middle_of(organ, MIDDLE))
    answer(logic, run)
    if what == "scene":
        slicer.mrmlScene.Clear(False)
    else:
        slicer.mrmlScene.RemoveNode(target if what == "target" else run.segmentation)
    run.look()
    logic.pump.turn()
    assert logic.wait(run, 60) and run.state == "cancelled" and not run.error and run.sentences


def test_another_run_ends_the_answering(logic, two_cases, target, organ):
    run = start(logic, target)
    click(target, middle_of(organ, MIDDLE))
    answer(logic, run)
    other = logic.segment_by_hand(two_cases[0][0], logic.said_by_marks(target), settings=CPU)
    assert run.ended and run.state == "cancelled" and mask_of(run, target).any()
    assert other.state == "finished" and other.segmentation is not run.segmentation


def test_scripts_segment_by_hand_alone_and_refuse_what_cannot_be_answered(logic, target, organ):
    with pytest.raises(ProxyPromptError, match="no support"):
        logic.segment_by_hand(target, logic.said_by_marks(target), settings=CPU)
    click(target, middle_of(organ, MIDDLE), name="gland")
    run = logic.segment_by_hand(target, logic.said_by_marks(target), settings=CPU)
    assert run.state == "finished" and list(run.segment_ids) == ["gland"] and mask_of(run, target, "gland").any()
    node = logic.new_mark(target, "outside", "gland")
    assert hand_marks.kind_of(node) == "outside"


LOOSE = EverythingChoice(points=6, quality=0.3, stability=0.5)


def test_everything_is_a_segmentation_of_its_own_that_is_shown_with_its_image_and_undone(logic, two_cases, target):
    run = logic.find_everything(target, slices=[MIDDLE], choice=LOOSE, settings=CPU)
    assert run.state == "finished" and run.found == len(run.segment_ids) > 0 and run.written == {MIDDLE}
    ids = list(run.segment_ids.values())
    masks = [segment_array(run.segmentation, one, target) for one in ids]
    assert all(mask[MIDDLE].any() and not np.delete(mask, MIDDLE, 0).any() for mask in masks)
    assert not result_segments(run.segmentation, target)  # no run writes it again
    display = run.segmentation.GetDisplayNode()
    show_only_own(slicer.mrmlScene, two_cases[0][0], [])
    assert not display.GetVisibility()
    show_only_own(slicer.mrmlScene, target, [])
    assert display.GetVisibility()
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode")
    assert count == 0
    node = run.segmentation
    assert run.undo() and not slicer.mrmlScene.IsNodePresent(node)


def test_everything_that_finds_nothing_makes_nothing_and_says_so(logic, target):
    strict = EverythingChoice(points=4, quality=0.9999)
    run = logic.find_everything(target, slices=[MIDDLE], choice=strict, settings=CPU)
    assert run.state == "finished" and run.nothing_found and run.segmentation is None
    assert any("Nothing was found" in one for one in run.sentences)


def test_everything_that_is_cancelled_keeps_the_slices_that_are_done(logic, target):
    request = Request(target=target, slices=range(4, 8), settings=CPU, first=MIDDLE)
    run = logic.everything(request, replace(LOOSE, quality=0.1))
    run.observe(lambda seen: seen.cancel() if seen.done > LOOSE.points**2 and not seen.ended else None)
    assert logic.wait(run, 60) and run.state == "cancelled" and not run.error
    assert MIDDLE in run.written and len(run.written) < 4 and run.found == len(run.segment_ids) > 0
    shown = sum(segment_array(run.segmentation, one, target).any(axis=(1, 2)) for one in run.segment_ids.values())
    assert set(np.flatnonzero(shown)) <= run.written


@pytest.mark.parametrize("what", ["target", "scene"])
def test_what_is_deleted_while_everything_is_looked_for_ends_it_with_a_sentence(logic, target, what):
    run = logic.everything(Request(target=target, settings=CPU), LOOSE)
    while not run.done and not run.ended:
        logic.pump.turn()
    if what == "scene":
        slicer.mrmlScene.Clear(False)
    else:
        slicer.mrmlScene.RemoveNode(target)
    there = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    assert logic.wait(run, 60) and run.state == "cancelled" and run.sentences and not run.error
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == there
