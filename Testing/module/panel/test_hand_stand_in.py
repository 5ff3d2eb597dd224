"""Marks by hand in the panel: placed, answered, tied to one target; the panel has stand-ins for Slicer's widgets."""

from __future__ import annotations

import numpy as np
import pytest

from mark_cases import click, draw_box
from mrml_scene import add_segmentation
from widget_cases import add_case, text_of

HAND = 3


@pytest.fixture
def marked(ready):
    """A panel that is prompted by hand, and its target."""
    ready.ui.promptByCombo.currentIndex = HAND
    return ready


def settle(panel):
    """Let the timers of the panel run; on a busy machine they are late."""
    import time

    import slicer_stand_ins

    begun = time.monotonic()
    marking = panel.sections.hand._marking
    while time.monotonic() < begun + 0.2 or (marking._waiting and time.monotonic() < begun + 10):
        slicer_stand_ins.process_events()


def shown(panel, *names):
    return [name for name in names if not getattr(panel.ui, name).real.isHidden()]


PARTS = ("handFrame", "supportButton", "classFrame", "scopeCombo", "fillGapsBox", "clickInsideButton")


def test_only_what_marks_need_is_shown(marked):
    assert shown(marked, *PARTS) == ["handFrame"]
    assert text_of(marked.ui.reasonLabel).startswith("Press Inside and click") and marked.ui.insideButton.enabled
    marked.ui.promptByCombo.currentIndex = 0
    assert "handFrame" not in shown(marked, *PARTS) and "clickInsideButton" in shown(marked, *PARTS)


def test_pressing_inside_places_points_of_the_named_structure_and_each_is_answered(marked):
    import slicer

    marked.ui.handNameEdit.text = "lesion"
    marked.ui.handNameEdit.real.editingFinished.emit()
    marked.ui.insideButton.click()
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.Place and marked.ui.insideButton.checked
    run = marked.host.logic.runs[0]
    assert run.request.objects == ("lesion",) and run.request.cases == () and run.request.settings.axis == "k"
    assert marked.ui.applyButton.text == "Finish marking" and not shown(marked, "progressBar")
    click(marked.new_case, (6, 7, 3), name="lesion")
    click(marked.new_case, (8, 9, 3), name="lesion")
    settle(marked)
    asked, said = marked.host.logic.looked[-1]
    assert asked is run and [point.ijk[2] for point in said.points] == [3, 3]
    assert "inside 2, outside 0" in text_of(marked.ui.handLabel)
    marked.ui.applyButton.click()
    assert run.closed and interaction.GetCurrentInteractionMode() != interaction.Place
    assert marked.ui.applyButton.text == "Apply" and not marked.ui.insideButton.checked


def test_the_applications_own_button_ends_the_marking_too(marked):
    import slicer

    marked.ui.insideButton.click()
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    settle(marked)
    assert marked.host.logic.runs[0].closed and not marked.ui.insideButton.checked


def test_outside_after_inside_goes_on_with_the_same_run(marked):
    marked.ui.insideButton.click()
    click(marked.new_case, (6, 7, 3))
    settle(marked)
    marked.ui.outsideButton.click()
    settle(marked)
    assert len(marked.host.logic.runs) == 1 and not marked.host.logic.runs[0].closed
    assert marked.ui.outsideButton.checked and not marked.ui.insideButton.checked


def test_marks_are_never_carried_to_the_next_target(marked):
    other, _ = add_case("other", objects=())
    marked.ui.insideButton.click()
    node = click(marked.new_case, (6, 7, 3))
    settle(marked)
    marked.ui.targetSelector.setCurrentNode(other)
    assert marked.host.logic.runs[0].closed and not marked.ui.insideButton.checked
    assert not node.GetDisplayNode().GetVisibility()
    assert not text_of(marked.ui.handLabel) and text_of(marked.ui.reasonLabel).startswith("Press Inside")
    marked.ui.targetSelector.setCurrentNode(marked.new_case)
    assert node.GetDisplayNode().GetVisibility() and "inside 1" in text_of(marked.ui.handLabel)
    request = marked.chosen.requests.request()
    assert len(request.by_hand.points) == 1 and request.objects == ("object",) and request.slices is None


def test_a_box_is_laid_on_the_slice_on_screen(marked):
    import slicer

    from ProxyPromptSegmentModule.scene.hand_marks import marks_of
    from ProxyPromptSegmentModule.scene.slice_views import show_slice

    show_slice(slicer.mrmlScene, marked.new_case, "k", 4)
    marked.ui.boxButton.click()
    (node,) = marks_of(slicer.mrmlScene, marked.new_case)
    draw_box(marked.new_case, (4, 5, 0), (12, 15, 7), node=node)
    node.InvokeEvent(node.PointPositionDefinedEvent)
    settle(marked)
    (box,) = marked.chosen.requests.said().boxes
    assert round(box.first[2]) == round(box.last[2]) == 4
    assert np.allclose([box.first[:2], box.last[:2]], [(4, 5), (12, 15)], atol=1e-3)


def test_the_last_mark_is_taken_back_and_all_are_cleared(marked):
    import slicer

    from ProxyPromptSegmentModule.scene.hand_marks import marks_of

    assert not marked.ui.takeBackButton.enabled
    marked.ui.insideButton.click()
    click(marked.new_case, (6, 7, 3))
    click(marked.new_case, (8, 7, 3))
    settle(marked)
    marked.ui.takeBackButton.click()
    assert len(marked.host.logic.looked[-1][1].points) == 1
    looked = len(marked.host.logic.looked)
    marked.ui.clearMarksButton.click()
    settle(marked)
    assert marks_of(slicer.mrmlScene, marked.new_case) == []
    assert len(marked.host.logic.looked) == looked  # the result is kept as it is


def test_a_deleted_node_is_answered_while_the_run_works(marked):
    import slicer

    marked.ui.insideButton.click()
    node = click(marked.new_case, (6, 7, 3))
    settle(marked)
    slicer.mrmlScene.RemoveNode(node)
    settle(marked)
    assert not marked.host.logic.looked[-1][1].points


def test_a_painted_segment_of_the_target_is_a_prompt(marked):
    mask = np.zeros((8, 24, 24), np.uint8)
    mask[3, 5:12, 5:12] = 1
    add_segmentation(marked.new_case, {"rough": mask}, "painted")
    marked.refresh()
    combo = marked.ui.handMaskCombo
    assert [combo.real.itemText(n) for n in range(combo.count)] == ["No painted mask", "painted: rough"]
    combo.currentIndex = 1
    assert marked.host.logic.looked[-1][1].masks[0].voxels.sum() == 49
    marked.host.logic.runs[-1].end("finished")
    assert not text_of(marked.ui.reasonLabel)
    marked.ui.applyButton.click()
    assert len(marked.host.logic.runs[-1].request.by_hand.masks) == 1
    marked.host.logic.runs[-1].end("finished")
    other, _ = add_case("other", objects=())
    marked.ui.targetSelector.setCurrentNode(other)
    assert not marked.chosen.requests.said()


def test_marks_go_when_their_result_is_deleted(marked):
    import slicer

    from ProxyPromptSegmentModule.scene.hand_marks import marks_of

    marked.ui.insideButton.click()
    click(marked.new_case, (6, 7, 3))
    settle(marked)
    run = marked.host.logic.runs[0]
    run.segmentation = add_segmentation(marked.new_case, {"object": np.zeros((8, 24, 24), np.uint8)}, "result")
    run.tell()
    marked.refresh()
    marked.ui.applyButton.click()
    slicer.mrmlScene.RemoveNode(run.segmentation)
    assert marks_of(slicer.mrmlScene, marked.new_case) == []


def test_the_scene_is_closed_and_the_module_is_left_while_marks_are_answered(marked):
    import slicer

    marked.ui.insideButton.click()
    marked.exit()
    assert marked.host.logic.runs[0].closed
    marked.enter()
    marked.ui.insideButton.click()
    slicer.mrmlScene.Clear(False)
    settle(marked)
    assert marked.host.logic.runs[1].closed
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() != interaction.Place


def test_everything_on_the_slice_is_found_and_removed_by_the_same_button(marked):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import show_slice

    show_slice(slicer.mrmlScene, marked.new_case, "k", 4)
    marked.ui.everythingButton.click()
    run = marked.host.logic.runs[0]
    assert run.request.slices == (4,) and marked.ui.applyButton.text == "Cancel"
    node = add_segmentation(marked.new_case, {}, "everything")
    run.destination = run
    run.valid = True
    run.end("finished", segmentation=node)
    assert marked.ui.everythingButton.checked and marked.state.parameters.outputSegmentation is not node
    marked.ui.everythingButton.click()
    assert run.taken_back == ["undo"] and not marked.ui.everythingButton.checked


def test_clicks_correct_the_result_of_a_support(finished):
    finished.ui.clickOutsideButton.click()
    run = finished.host.logic.runs[1]
    assert run.request.cases and run.request.objects == ("prostate", "tumour") and run.request.slices is None
    assert run.request.output.segmentation is finished.result and run.request.output.reuse
    click(finished.new_case, (6, 7, 3), "outside", "prostate")
    settle(finished)
    assert [point.inside for point in finished.host.logic.looked[-1][1].points] == [False]
    finished.ui.applyButton.click()
    assert run.closed
    request = finished.chosen.requests.request()  # the next run keeps the corrections
    assert len(request.by_hand.points) == 1
    finished.ui.scopeCombo.currentIndex = 1
    finished.ui.sliceRange.setValues(5, 7)
    assert not finished.chosen.requests.request().by_hand  # they lie on another slice
    finished.ui.objectsList.item(0).setCheckState(type(finished.ui.objectsList.item(0).checkState()).Unchecked)
    finished.refresh()
    assert not finished.ui.clickInsideButton.enabled
