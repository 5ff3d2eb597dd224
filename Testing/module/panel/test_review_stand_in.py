"""The review section: confidence along the slices, the next doubtful slice, accepting, and the keys."""

from __future__ import annotations

import pytest

from finished_runs import doubt, erase, show
from widget_cases import add_case, as_result, text_of


def with_facts(finished, **more):
    """Store what a run has found out about the result."""
    from ProxyPromptSegmentModule.scene.facts import Facts

    as_result(finished.new_case, finished.result, Facts(**more))
    finished.refresh()


@pytest.fixture
def reviewed(finished):
    sure = {index: 0.9 for index in range(8)} | {3: 0.2, 6: 0.5}
    doubts = {"prostate": (doubt(3, sure=0.1), doubt(6, sure=0.4))}
    with_facts(finished, confidence={"prostate": sure, "tumour": {3: 0.4, 1: 0.1}}, doubts=doubts)
    finished.ui.reviewButton.collapsed = False
    return finished


def colors(panel, row=0):
    strip = panel.ui.confidenceStrip.real
    brushes = [strip.item(row, column).background().color() for column in range(strip.columnCount())]
    return [(one.red(), one.green(), one.blue()) for one in brushes]


def on_screen(panel):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import slice_on_screen

    return slice_on_screen(slicer.mrmlScene, panel.new_case, "k")


def press(panel, keys):
    """Press a key of the panel, as Qt reports it."""
    from PySide6 import QtGui

    found = panel.ui.researchLabel.real.findChildren(QtGui.QShortcut)
    (shortcut,) = [one for one in found if one.key().toString() == keys]
    shortcut.activated.emit()


def test_the_strip_has_a_cell_for_each_slice_coloured_by_its_least_sure_object(reviewed):
    shown = colors(reviewed)
    assert len(shown) == 8 and shown[0] == shown[2] and len(set(shown)) == 4
    red, yellow, green = shown[1], shown[6], shown[0]
    assert red[0] > red[1] and yellow[0] > yellow[2] and green[1] > green[0]
    assert reviewed.ui.confidenceStrip.real.item(0, 3).toolTip() == "Slice 3: confidence 0.20"


def test_a_click_on_the_strip_shows_the_slice_and_the_mark_follows_the_view(reviewed):
    reviewed.ui.confidenceStrip.real.cellClicked.emit(0, 6)
    assert on_screen(reviewed) == 6
    marks = colors(reviewed, row=1)
    assert [n for n, color in enumerate(marks) if color == (20, 20, 20)] == [6]
    show(reviewed, 2)
    marks = colors(reviewed, row=1)
    assert [n for n, color in enumerate(marks) if color == (20, 20, 20)] == [2]


def test_a_slice_that_was_changed_by_hand_has_no_confidence_of_the_model(reviewed):
    erase(reviewed, 4)
    assert colors(reviewed)[4] == (77, 140, 230)
    assert reviewed.ui.confidenceStrip.real.item(0, 4).toolTip() == "Slice 4: changed by hand"
    erase(reviewed, 3)
    assert reviewed.ui.confidenceStrip.real.item(0, 3).toolTip() == "Slice 3: confidence 0.40", "the other object's"


def test_a_result_of_an_earlier_version_has_no_strip(finished):
    with_facts(finished)
    assert finished.ui.confidenceStrip.real.isHidden() and finished.ui.stripCaption.real.isHidden()


def test_the_strip_is_that_of_the_selected_target(reviewed):
    third, _ = add_case("third", objects=())
    reviewed.ui.targetSelector.setCurrentNode(third)
    assert reviewed.ui.confidenceStrip.real.isHidden()
    for button in (reviewed.ui.nextDoubtButton, reviewed.ui.acceptButton, reviewed.ui.toggleResultButton):
        assert not button.enabled and button.toolTip == "There is no result yet; press Apply."
    reviewed.ui.targetSelector.setCurrentNode(reviewed.new_case)
    assert not reviewed.ui.confidenceStrip.real.isHidden() and reviewed.ui.acceptButton.enabled


def test_many_slices_share_cells_and_a_click_shows_the_least_sure_of_them(stand_ins):
    import qt

    from ProxyPromptSegmentModule.panel.confidence_strip import MOST_CELLS, ConfidenceStrip, Slices

    table, clicked = qt.QTableWidget(), []
    strip = ConfidenceStrip(table, clicked.append)
    strip.show(Slices(count=1000, confidence={index: 0.9 for index in range(1000)} | {3: 0.1, 999: 0.2}))
    assert table.real.columnCount() == MOST_CELLS
    for column in (0, MOST_CELLS - 1):
        table.real.cellClicked.emit(0, column)
    assert clicked == [3, 999]
    strip.mark(500)
    strip.show(Slices(count=2, confidence={}))
    strip.mark(1)
    assert table.real.columnCount() == 2
    strip.show(Slices())
    strip.mark(0)
    assert table.real.columnCount() == 0


def test_the_next_doubtful_slice_goes_through_the_list_in_its_order_and_around(reviewed):
    said = []
    for _turn in range(3):
        reviewed.ui.nextDoubtButton.click()
        said.append((on_screen(reviewed), text_of(reviewed.ui.reviewMessageLabel)))
    assert [index for index, _text in said] == [3, 6, 3]
    assert said[0][1] == "1 of 2: slice 3 (S 18.0 mm), prostate: unlike its neighbours"
    erase(reviewed, 3)
    reviewed.ui.nextDoubtButton.click()
    assert on_screen(reviewed) == 6, "a slice that was corrected is not doubtful any more"


def test_without_a_doubtful_slice_the_button_says_so(finished):
    with_facts(finished)
    assert finished.ui.nextDoubtButton.toolTip == "No slice stands out; check them all."
    assert text_of(finished.ui.doubtsCaption) == "No slice stands out; check them all."
    press(finished, "Shift+N")


def test_keys_do_what_the_buttons_do_and_are_named_in_their_tips(reviewed):
    ui = reviewed.ui
    for button, key in (
        (ui.nextDoubtButton, "Shift+N"),
        (ui.acceptButton, "Shift+A"),
        (ui.undoButton, "Shift+U"),
        (ui.toggleResultButton, "Shift+T"),
    ):
        assert f"({key})" in button.toolTip
    press(reviewed, "Shift+N")
    assert on_screen(reviewed) == 3
    press(reviewed, "Shift+T")
    assert not reviewed.result.GetDisplayNode().GetVisibility()
    press(reviewed, "Shift+T")
    assert reviewed.result.GetDisplayNode().GetVisibility()
    press(reviewed, "Shift+A")
    assert ui.acceptButton.checked and ui.casesList.item(0).text() == "new: accepted"
    press(reviewed, "Shift+U")
    assert reviewed.last.taken_back == ["undo"]


def test_keys_do_nothing_without_a_result(panel):
    for key in ("Shift+N", "Shift+A", "Shift+U", "Shift+T"):
        press(panel, key)
    assert panel.ui.casesList.count == 0


def test_accepting_is_taken_back_by_a_second_press_and_ends_with_a_change(reviewed):
    ui = reviewed.ui
    ui.acceptButton.click()
    assert ui.acceptButton.text == "Accepted"
    ui.acceptButton.click()
    assert ui.acceptButton.text == "Accept" and ui.casesList.item(0).text() == "new: segmented"
    ui.acceptButton.click()
    erase(reviewed, 4)
    assert not ui.acceptButton.checked and ui.casesList.item(0).text() == "new: corrected"


def test_a_case_cannot_be_accepted_while_a_run_writes_it(reviewed):
    reviewed.ui.applyButton.click()
    assert not reviewed.ui.acceptButton.enabled
    assert reviewed.ui.acceptButton.toolTip == "Wait for the end of the run."
    reviewed.host.logic.runs[-1].end("cancelled")
