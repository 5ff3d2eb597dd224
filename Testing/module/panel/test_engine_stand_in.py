"""The panel with the real logic, worker thread and compact model; only Slicer's widgets are stand-ins."""

from __future__ import annotations

import time

import pytest

from widget_cases import RecordedLogic, add_case, add_views, text_of

MOST_SECONDS = 120


@pytest.fixture
def working(make_panel):
    """A panel on the real logic, with a support; the target is a copy of its image."""
    pytest.importorskip("torch")
    import slicer

    from ProxyPromptSegmentModule.logic import SegmentationLogic

    class Logic(SegmentationLogic):
        scene = slicer.mrmlScene
        getParameterNode = RecordedLogic.getParameterNode  # noqa: N815

    support, _annotation = add_case("earlier", size=48)
    target, _ = add_case("new", objects=(), size=48)
    slicer.util.updateVolumeFromArray(target, slicer.util.arrayFromVolume(support).copy())
    add_views()
    made = make_panel(Logic())
    made.ui.addSupportButton.click()
    made.new_case = target
    return made


def _until(stand_ins, done):
    until = time.monotonic() + MOST_SECONDS
    while not done():
        assert time.monotonic() < until, "it did not end"
        stand_ins.process_events()


def test_apply_writes_results_and_the_why_view_answers(working, stand_ins):
    import slicer

    ui = working.ui
    assert text_of(ui.estimateLabel) == "Estimating time and memory…"
    _until(stand_ins, lambda: text_of(ui.estimateLabel).startswith("About "))
    ui.applyButton.click()
    _until(stand_ins, lambda: working.state.run.ended)
    assert working.state.run.state == "finished", working.state.run.error
    node = working.state.parameters.outputSegmentation
    assert node is working.state.run.segmentation and node.GetSegmentation().GetNumberOfSegments() == 2
    assert ui.resultsTable.rowCount == 2 and ui.doubtsList.count > 0 and ui.tableButton.enabled
    slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS([9.0, 7.0, 16.0])
    ui.whyCrosshairButton.click()
    _until(stand_ins, lambda: ui.whyList.count)
    assert "%" in text_of(ui.whyLabel)
    ui.objectsList.item(1).setCheckState(stand_ins.QtCore.Qt.Unchecked)
    assert not working.state.run.ended and ui.applyButton.text == "Cancel"
    _until(stand_ins, lambda: working.state.run.ended)
    assert working.state.run.state == "finished"
    assert ui.resultsTable.rowCount == 2, "the table shows every structure that is there"
    assert node.GetSegmentation().GetNumberOfSegments() == 2  # the object was written into its own segment again
    assert ui.undoButton.enabled
    ui.undoButton.click()
    assert ui.redoButton.enabled


def test_closing_the_scene_while_it_runs_leaves_an_empty_panel_and_no_thread(working, stand_ins):
    import slicer

    working.ui.applyButton.click()
    stand_ins.process_events()
    slicer.mrmlScene.Clear(False)
    assert working.state.run is None and working.ui.applyButton.text == "Apply"
    _until(stand_ins, lambda: not working.host.logic.worker.busy)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert working.host.logic.shutdown()
