"""Corrections in the panel: strokes on the result, refinements with live effect, and the overlay."""

from __future__ import annotations

import numpy as np
import pytest

from widget_cases import add_case, text_of


class Editor:
    """Slicer's Segment Editor widget as far as strokes need it."""

    made: list[Editor] = []

    def __init__(self):
        self.calls, self.node, self.volume, self.segment, self.effect = [], None, None, "", ""
        Editor.made.append(self)

    def segmentationNode(self):  # noqa: N802
        return self.node

    def setSegmentationNode(self, node):  # noqa: N802
        self.node = node

    def setSourceVolumeNode(self, node):  # noqa: N802
        self.volume = node

    def setCurrentSegmentID(self, segment):  # noqa: N802
        self.segment = segment

    def setActiveEffectByName(self, name):  # noqa: N802
        self.effect = name

    def setMRMLSegmentEditorNode(self, node):  # noqa: N802
        self.calls.append(("node", node.GetSingletonTag(), node.GetOverwriteMode()))

    def setMaximumNumberOfUndoStates(self, most):  # noqa: N802
        self.calls.append(("states", most))

    def setMRMLScene(self, scene):  # noqa: N802
        self.calls.append("scene")

    def setupViewObservations(self):  # noqa: N802
        self.calls.append("observe")

    def removeViewObservations(self):  # noqa: N802
        self.calls.append("leave")

    def undo(self):
        self.calls.append("undo")

    def deleteLater(self):  # noqa: N802
        self.calls.append("deleted")


@pytest.fixture
def drawing(finished, monkeypatch):
    import slicer

    Editor.made = []
    monkeypatch.setattr(slicer, "qMRMLSegmentEditorWidget", Editor, raising=False)
    return finished


def test_paint_works_on_the_result_of_the_target_in_its_own_editor(drawing):
    import slicer

    ui = drawing.ui
    assert not ui.undoStrokeButton.enabled and Editor.made == []
    ui.paintButton.click()
    (editor,) = Editor.made
    assert (editor.effect, editor.node, editor.volume) == ("Paint", drawing.result, drawing.new_case)
    assert editor.segment == "prostate" and ui.paintButton.checked and ui.undoStrokeButton.enabled
    assert ("node", "ProxyPromptSegment", slicer.vtkMRMLSegmentEditorNode.OverwriteNone) in editor.calls
    ui.eraseButton.click()
    assert editor.effect == "Erase" and ui.eraseButton.checked and not ui.paintButton.checked
    ui.undoStrokeButton.click()
    assert editor.calls[-1] == "undo"
    ui.eraseButton.click()
    assert editor.effect == "" and editor.calls[-1] == "leave" and not ui.eraseButton.checked
    assert ui.undoStrokeButton.enabled, "the last stroke can still be taken back"


def test_the_object_to_draw_can_be_chosen_among_several(drawing):
    ui = drawing.ui
    assert not ui.strokeObjectCombo.real.isHidden() and ui.strokeObjectCombo.count == 2
    ui.paintButton.click()
    ui.strokeObjectCombo.currentIndex = 1
    assert Editor.made[0].segment == "tumour" and Editor.made[0].effect == "Paint" and ui.paintButton.checked


def test_strokes_end_with_the_target_with_a_run_and_with_the_module(drawing):
    ui = drawing.ui
    third, _ = add_case("third", objects=())
    ui.paintButton.click()
    (editor,) = Editor.made
    ui.targetSelector.setCurrentNode(third)
    assert editor.effect == "" and editor.node is None and not ui.paintButton.enabled
    ui.targetSelector.setCurrentNode(drawing.new_case)
    ui.paintButton.click()
    ui.applyButton.click()
    assert editor.effect == "" and editor.node is None, "its states would take the run's slices back"
    assert not ui.paintButton.enabled and ui.paintButton.toolTip == "Wait for the end of the run."
    drawing.host.logic.runs[-1].end("cancelled")
    drawing.refresh()
    ui.paintButton.click()
    drawing.exit()
    assert editor.effect == "" and not ui.paintButton.checked
    assert editor.node is None, "taking a stroke back would take back what is drawn in the Segment Editor"


def test_undoing_the_run_forgets_strokes_whose_states_hold_it(drawing):
    drawing.ui.paintButton.click()
    drawing.ui.undoButton.click()
    assert Editor.made[0].node is None and Editor.made[0].effect == ""


def test_closing_the_scene_ends_strokes(drawing):
    import slicer

    drawing.ui.paintButton.click()
    slicer.mrmlScene.Clear(0)
    assert Editor.made[0].node is None and Editor.made[0].effect == ""
    assert not drawing.ui.paintButton.enabled


def refined(panel):
    return [one for one in panel.host.logic.asked if one[0] == "refine"]


def test_ticking_a_box_refines_the_run_at_once_and_unticking_takes_it_back(finished):
    from ProxyPromptSegmentModule.runs.refining import Refined, Refinement

    ui = finished.ui
    ui.piecesBox.click()
    ((_what, run, how, on_end),) = refined(finished)
    assert run is finished.last and how == Refinement(pieces=True)
    assert not ui.smoothBox.enabled and ui.smoothBox.toolTip == "This is being computed."
    run.refined = Refined(how, np.zeros((1, 1, 1, 1), np.uint8), ())
    on_end("")
    assert ui.piecesBox.checked and ui.smoothBox.enabled
    ui.smoothBox.click()
    assert refined(finished)[-1][2] == Refinement(pieces=True, smooth=True)
    run.refined = Refined(refined(finished)[-1][2], np.zeros((1, 1, 1, 1), np.uint8), ())
    refined(finished)[-1][3]("")
    ui.piecesBox.click()
    assert refined(finished)[-1][2] == Refinement(smooth=True)


def test_an_error_is_said_and_the_box_shows_what_is_there(finished):
    finished.ui.smoothBox.click()
    refined(finished)[-1][3]("something went wrong")
    assert text_of(finished.ui.reviewMessageLabel) == "Something went wrong"
    assert not finished.ui.smoothBox.checked and finished.ui.smoothBox.enabled


def test_without_the_masks_of_the_run_the_boxes_say_why_they_cannot_be_ticked(finished):
    ui = finished.ui
    finished.last.keeps_masks = False
    finished.refresh()
    for box in (ui.piecesBox, ui.smoothBox, ui.overlayBox):
        assert not box.enabled and "masks of earlier runs are not kept" in box.toolTip
    finished.last.keeps_masks = True
    ui.undoButton.click()
    assert ui.smoothBox.toolTip == "The result was undone."
    finished.state.run = None
    finished.refresh()
    assert ui.smoothBox.toolTip == "The run that made this result is not known any more."


def test_the_overlay_comes_and_goes_with_its_box_and_with_the_target(finished):
    import slicer

    ui, third = finished.ui, add_case("third", objects=())[0]
    view = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    view.SetBackgroundVolumeID(finished.new_case.GetID())
    ui.overlayBox.click()
    _what, run, on_answer = finished.host.logic.asked[-1]
    assert run is finished.last
    on_answer(np.full((8, 24, 24), 200, np.uint8), "")
    assert ui.overlayBox.checked and view.GetForegroundVolumeID()
    ui.targetSelector.setCurrentNode(third)
    assert not view.GetForegroundVolumeID()
    ui.targetSelector.setCurrentNode(finished.new_case)
    assert not ui.overlayBox.checked
    ui.overlayBox.click()
    late = finished.host.logic.asked[-1][2]
    ui.targetSelector.setCurrentNode(third)
    late(np.full((8, 24, 24), 200, np.uint8), "")
    assert not view.GetForegroundVolumeID(), "an answer about the former target"
    assert "third: not sure" not in [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode")]
