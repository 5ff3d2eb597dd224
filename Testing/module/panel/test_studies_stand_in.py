"""Many cases segmented from the one list: rows, order, clicks, cancel and continue; only widgets are stand-ins."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from lesson_cases import add_taught_case, until
from study_cases import below, click, finish, real_logic, rows
from widget_cases import add_views, text_of


@pytest.fixture
def ward(home, make_panel):
    """A panel on the real logic with a small model, a support, and three studies of which one cannot be read."""
    import slicer

    add_taught_case(0, "support")
    made = []
    for seed, name in ((1, "one"), (2, "damaged"), (3, "three")):
        node, annotation = add_taught_case(seed, name)
        slicer.mrmlScene.RemoveNode(annotation)
        made.append(node)
    slicer.util.updateVolumeFromArray(made[1], np.zeros((5, 48, 48), np.float32))
    add_views()
    panel = make_panel(real_logic())
    panel.one, panel.damaged, panel.three = made
    panel.ui.addSupportButton.click()
    parameters = panel.state.parameters
    parameters.model, parameters.device, parameters.threshold = "small", "cpu", 0.0
    panel.ui.targetSelector.setCurrentNode(panel.three)
    assert rows(panel) == ["one: new", "damaged: new", "three: new"]
    return panel


def test_all_cases_are_segmented_those_to_look_at_first_are_on_top_and_a_click_shows_one(ward, stand_ins):
    ui = ward.ui
    assert ui.segmentCasesButton.text == "Segment 3 cases"
    assert ui.segmentCasesButton.toolTip.endswith("Supports are not segmented: support.")
    ui.segmentCasesButton.click()
    studies = ward.state.studies
    assert studies is not None, text_of(ui.casesMessageLabel)
    assert ui.segmentCasesButton.text == "Cancel" and not ui.casesProgressBar.real.isHidden()
    assert not ui.applyButton.enabled and "cancel them under Cases" in text_of(ui.reasonLabel)
    until(stand_ins, lambda: studies.current is studies.studies[2])
    assert ui.casesProgressBar.format.startswith("3 of 3, three")
    until(stand_ins, lambda: rows(ward) == ["damaged: failed", "one: segmented", "three: being segmented"])
    finish(ward, stand_ins)
    assert rows(ward)[0] == "damaged: failed" and "has the same intensity (0) everywhere" in below(ward, 0)
    assert sorted(rows(ward)[1:]) == ["one: segmented", "three: segmented"]
    assert below(ward, 1).startswith("gland ") and " ml, confidence 0." in below(ward, 1)
    sure = [float(below(ward, row).rsplit(" ", 1)[1]) for row in (1, 2)]
    assert sure == sorted(sure), "the least sure first"
    assert text_of(ui.casesMessageLabel) == (
        "Finished: 2 segmented, 1 failed.\nThose to look at first are at the top of the list."
    )
    assert ui.casesButton.text == "Cases: 1 failed, 2 segmented" and ui.applyButton.enabled
    results = {study.name: study.run.segmentation for study in studies.studies if study.state == "done"}
    click(ward, rows(ward).index("one: segmented"))
    assert ward.state.parameters.targetVolume is ward.one and ward.state.segmentation is results["one"]
    assert ward.state.parameters.outputSegmentation is results["one"] and ui.resultsTable.rowCount == 1
    assert results["one"].GetDisplayNode().GetVisibility() and not results["three"].GetDisplayNode().GetVisibility()
    assert ui.undoButton.enabled, "each of the results can be undone"
    click(ward, 0)
    assert ward.state.parameters.targetVolume is ward.damaged and ward.state.segmentation is None


@pytest.mark.slow
def test_a_case_that_is_not_ticked_is_not_segmented_and_accepted_ones_stay_as_they_are(ward, stand_ins):
    from PySide6.QtCore import Qt

    ui = ward.ui
    for row in (0, 1):
        ui.casesList.item(row).setCheckState(Qt.CheckState.Unchecked)
    assert ui.segmentCasesButton.text == "Segment 1 case"
    ui.segmentCasesButton.click()
    finish(ward, stand_ins)
    assert [study.name for study in ward.state.studies.studies] == ["three"]
    assert sorted(rows(ward)) == ["damaged: new", "one: new", "three: segmented"]
    ui.acceptButton.click()
    assert "three: accepted" in rows(ward)
    node = ward.state.segmentation
    before = node.GetMTime()
    ui.segmentCasesButton.click()
    finish(ward, stand_ins)
    assert "three: accepted" in rows(ward) and ward.state.segmentation is node and node.GetMTime() == before
    assert text_of(ui.casesMessageLabel) == "Finished: 0 segmented, 1 left out."
    ui.casesList.item(rows(ward).index("three: accepted")).setCheckState(Qt.CheckState.Unchecked)
    assert not ui.segmentCasesButton.enabled and ui.segmentCasesButton.toolTip == "Tick at least one case in the list."


def test_cancel_keeps_what_is_done_and_the_same_button_continues(ward, stand_ins):
    ui = ward.ui
    ui.segmentCasesButton.click()
    studies = ward.state.studies
    until(stand_ins, lambda: studies.count("failed"))
    ui.segmentCasesButton.click()
    assert text_of(ui.casesMessageLabel) == "Stopping after this slice…" and not ui.segmentCasesButton.enabled
    finish(ward, stand_ins)
    assert text_of(ui.casesMessageLabel).startswith("Cancelled: 1 segmented, 1 failed, 1 still to do.")
    assert ui.segmentCasesButton.text == "Continue: 1 to do" and "three: waiting" in rows(ward)
    ui.segmentCasesButton.click()
    finish(ward, stand_ins)
    said = text_of(ui.casesMessageLabel)
    assert said.startswith("Finished: 1 segmented, 1 done before with the same inputs, 1 failed."), said
    assert "three: segmented" in rows(ward) and ui.segmentCasesButton.text == "Segment 3 cases"


def test_a_scene_that_is_closed_meanwhile_leaves_an_empty_list(ward, stand_ins):
    import slicer

    ward.ui.segmentCasesButton.click()
    until(stand_ins, lambda: ward.state.studies.current is not None)
    slicer.mrmlScene.Clear(False)
    until(stand_ins, lambda: not ward.host.logic.worker.busy)
    assert ward.state.studies is None and rows(ward) == [] and not ward.ui.segmentCasesButton.enabled


def test_what_cannot_be_segmented_together_says_why_and_a_renamed_case_has_its_new_name(ward):
    ward.one.SetName("other name")
    assert rows(ward) == ["other name: new", "damaged: new", "three: new"]
    button, combo = ward.ui.segmentCasesButton, ward.ui.promptByCombo
    combo.currentIndex = combo.count - 1
    assert not button.enabled and button.toolTip.startswith("Marks by hand are of one image")
    combo.currentIndex = 0
    assert button.enabled
    ward.ui.applyButton.click()
    assert not button.enabled and button.toolTip == "A segmentation is in progress; wait for it or cancel it."
