"""The list of cases: what it shows, and how it steps through a study list."""

from __future__ import annotations

from finished_runs import erase
from widget_cases import add_case


def lines(panel):
    listed = panel.ui.casesList
    return [listed.item(number).text().split("\n")[0] for number in range(listed.count)]


def test_an_empty_scene_has_no_cases(panel):
    panel.refresh()
    assert lines(panel) == [] and panel.ui.casesButton.text == "Cases"
    assert not panel.ui.nextCaseButton.enabled and panel.ui.nextCaseButton.toolTip == "There is no other case."


def test_cases_are_the_images_beside_the_supports_with_their_states(finished):
    add_case("third", objects=())
    finished.refresh()
    assert lines(finished) == ["new: segmented", "third: new"]
    assert finished.ui.casesButton.text == "Cases: 1 new, 1 segmented"
    erase(finished, 4)
    assert lines(finished) == ["new: corrected", "third: new"]


def test_a_click_on_a_case_makes_it_the_target(finished):
    third, _ = add_case("third", objects=())
    finished.refresh()
    listed = finished.ui.casesList
    assert listed.currentRow == 0
    listed.real.itemClicked.emit(listed.item(1))
    assert finished.state.parameters.targetVolume is third and listed.currentRow == 1
    assert not finished.result.GetDisplayNode().GetVisibility(), "the other patient's result lies on this one"
    listed.real.itemClicked.emit(listed.item(0))
    assert finished.state.parameters.targetVolume is finished.new_case


def test_next_and_previous_step_through_the_list_and_around_its_ends(finished):
    third, _ = add_case("third", objects=())
    fourth, _ = add_case("fourth", objects=())
    finished.refresh()
    ui, chosen = finished.ui, []
    assert ui.nextCaseButton.toolTip == "Next case: third (new)."
    assert ui.previousCaseButton.toolTip == "Previous case: fourth (new)."
    for button in (ui.nextCaseButton, ui.nextCaseButton, ui.nextCaseButton, ui.previousCaseButton):
        button.click()
        chosen.append(finished.state.parameters.targetVolume)
    assert chosen == [third, fourth, finished.new_case, fourth]


def test_without_a_target_the_list_begins_at_its_ends(finished):
    third, _ = add_case("third", objects=())
    finished.ui.targetSelector.setCurrentNode(None)
    assert finished.ui.casesList.currentRow == -1
    finished.ui.nextCaseButton.click()
    assert finished.state.parameters.targetVolume is finished.new_case
    finished.ui.targetSelector.setCurrentNode(None)
    finished.ui.previousCaseButton.click()
    assert finished.state.parameters.targetVolume is third


def test_a_case_that_is_deleted_while_it_is_shown_leaves_the_list(finished):
    import slicer

    add_case("third", objects=())
    finished.refresh()
    slicer.mrmlScene.RemoveNode(finished.new_case)
    assert "third: new" in lines(finished) and not any(line.startswith("new:") for line in lines(finished))
    finished.ui.nextCaseButton.click()
    assert finished.state.parameters.targetVolume.GetName() == "third"


def test_the_list_is_empty_after_the_scene_was_closed(finished):
    import slicer

    slicer.mrmlScene.Clear(0)
    assert lines(finished) == []
