"""Undo and redo of a run whose arrays were released, because others ran since."""

from __future__ import annotations

import pytest

from scripted_worker import ScriptedWorker
from widget_cases import add_case, add_views, text_of


@pytest.fixture
def working(make_panel):
    from ProxyPromptSegmentModule.logic import SegmentationLogic
    from widget_cases import RecordedLogic

    class Logic(SegmentationLogic):
        getParameterNode = RecordedLogic.getParameterNode  # noqa: N815

    logic = Logic()
    logic.scene, logic.worker = __import__("slicer").mrmlScene, ScriptedWorker()
    add_case("earlier", objects=("prostate",))
    for name in ("one", "two", "three"):
        add_case(name, objects=())
    add_views()
    panel = make_panel(logic)
    panel.ui.addSupportButton.click()
    return panel


def run_on(panel, name):
    import slicer

    panel.ui.targetSelector.setCurrentNode(slicer.mrmlScene.GetFirstNodeByName(name))
    panel.ui.applyButton.click()
    for _ in range(400):
        if not panel.host.logic._work():
            break
    panel.host.logic.results.refresh()
    panel.refresh()
    return panel.state.result


def test_a_released_run_is_undone_and_restored_with_its_facts(working):
    import slicer

    from ProxyPromptSegmentModule.scene.facts import text_of_facts

    first = run_on(working, "one")
    target, node = first.request.target, first.segmentation
    before = text_of_facts(node, target)
    assert before
    run_on(working, "two")
    run_on(working, "three")
    assert first.job is None, "its arrays are released"
    working.ui.targetSelector.setCurrentNode(slicer.mrmlScene.GetFirstNodeByName("one"))
    working.ui.undoButton.click()
    assert text_of_facts(node, target) == ""
    working.ui.redoButton.click()
    assert text_of_facts(node, target) == before and not first.undone
    assert working.ui.casesList.item(0).text().startswith("one: segmented\nprostate ")
    assert not working.ui.smoothBox.enabled and "are not kept" in working.ui.smoothBox.toolTip


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 8])
def test_a_run_that_is_cancelled_before_its_first_slice_leaves_a_new_case_and_words_about_its_end(working, turns):
    import slicer

    working.ui.targetSelector.setCurrentNode(slicer.mrmlScene.GetFirstNodeByName("one"))
    logic, ui = working.host.logic, working.ui
    ui.applyButton.click()
    run = working.state.run
    for _turn in range(turns):
        logic._work()
    ui.applyButton.click()
    while logic._work() or not run.ended:
        pass
    logic.results.refresh()
    working.refresh()
    assert f"Cancelled; slices done and kept: {len(run.written)}." in text_of(ui.runLabel)
    assert ui.applyButton.text == "Apply" and ui.applyButton.enabled
    lines = [ui.casesList.item(number).text().split("\n")[0] for number in range(ui.casesList.count)]
    assert ("one: segmented" if run.written else "one: new") in lines
    assert (working.state.segmentation is not None) == bool(run.written)
