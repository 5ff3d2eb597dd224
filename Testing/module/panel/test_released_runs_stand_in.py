"""Undo and redo of a run whose arrays were released, because others ran since."""

from __future__ import annotations

import pytest

from scripted_worker import ScriptedWorker
from widget_cases import add_case, add_views


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
