"""The panel after Apply, with stand-ins for Slicer's widgets: views, results, corrections, why."""

from __future__ import annotations

import types

import numpy as np

from finished_runs import doubt, erase, job, show
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.reports.results_table import Table
from ProxyPromptSegmentLib.review.findings import Finding
from widget_cases import text_of


def test_the_views_follow_the_slices_that_are_written_if_asked(ready):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import slice_on_screen

    ready.ui.applyButton.click()
    run = ready.host.logic.runs[0]
    run.job = job()
    run.writes(1, 8, 6)
    assert slice_on_screen(slicer.mrmlScene, ready.new_case, "k") == 6
    ready.ui.followViewBox.click()
    run.writes(2, 8, 3)
    assert slice_on_screen(slicer.mrmlScene, ready.new_case, "k") == 6


def test_results_are_listed_and_a_click_jumps_to_a_doubtful_slice(finished):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import slice_on_screen

    ui = finished.ui
    assert not ui.resultButton.collapsed
    assert ui.resultsTable.horizontalHeaderItem(1).text() == "Volume\n[ml]"
    assert [ui.resultsTable.item(0, n).text() for n in range(4)] == ["prostate", "0.84", "4", "2-5"]
    assert ui.doubtsList.item(0).text() == "Slice 6 (S 18.0 mm), prostate: unlike its neighbours"
    ui.doubtsList.real.itemClicked.emit(ui.doubtsList.item(1))
    assert slice_on_screen(slicer.mrmlScene, finished.new_case, "k") == 1
    assert ui.show3DButton.segmentationNode() is finished.result
    assert finished.state.parameters.outputSegmentation is finished.result
    assert "Finished; slices written: 8." in text_of(ui.runLabel)


def test_a_run_that_found_nothing_says_so_instead_of_counting_slices(finished):
    finished.last.nothing_found = True
    finished.last.tell()
    said = text_of(finished.ui.runLabel)
    assert "Finished; nothing was found on any slice: every segment is empty." in said and "written" not in said
    finished.last.request = types.SimpleNamespace(browser=object(), target=finished.new_case)
    finished.last.tell()
    assert "nothing was found on any item" in text_of(finished.ui.runLabel)


def test_undo_and_redo_take_turns(finished):
    ui, inside, undo, redo = finished.ui, finished.result.GetSegmentation(), finished.last.undo, finished.last.redo
    segments = {one: inside.GetSegment(one) for one in ("prostate", "tumour")}
    finished.last.undo = lambda: (inside.RemoveAllSegments(), undo())[1]
    finished.last.redo = lambda: ([inside.AddSegment(segments[one], one) for one in segments], redo())[1]
    assert ui.undoButton.enabled and not ui.redoButton.enabled
    ui.undoButton.click()
    assert finished.last.taken_back == ["undo"]
    assert not ui.undoButton.enabled and ui.redoButton.enabled
    assert ui.resultsTable.real.isHidden() and ui.undoButton.toolTip == "The result was undone."
    ui.redoButton.click()
    assert finished.last.taken_back == ["undo", "redo"] and ui.undoButton.enabled
    finished.last.undo = lambda: False
    ui.undoButton.click()
    assert "cannot be undone any more" in text_of(ui.resultMessageLabel)


def test_after_an_undo_another_object_does_not_run_again(finished):
    from PySide6.QtCore import Qt

    finished.ui.undoButton.click()
    finished.ui.objectsList.item(0).setCheckState(Qt.Unchecked)
    assert len(finished.host.logic.runs) == 1


def test_a_corrected_slice_becomes_a_support_and_is_not_written_again(finished):
    from ProxyPromptSegmentModule.scene.segment_state import changed_slices

    for index in (4, 2, 2):
        erase(finished, index)
        show(finished, index)
        finished.ui.useCorrectedButton.click()
        assert "is now a support" in text_of(finished.ui.resultMessageLabel)
    rows = finished.state.table.rows()
    assert [row.title for row in rows] == ["earlier", "new, corrected"] and rows[1].slices == (2, 4)
    assert changed_slices(finished.result, "tumour", finished.new_case) == (2, 4), "the support has both objects"
    finished.ui.applyButton.click()
    request = finished.host.logic.runs[-1].request
    assert request.slices == (0, 1, 3, 5, 6, 7) and request.settings.axis == "k"
    assert len(request.cases) == 2
    assert request.output.reuse and request.output.segmentation is finished.result


def test_a_slice_as_the_model_drew_it_is_used_only_after_a_second_press(finished):
    show(finished, 4)
    finished.ui.useCorrectedButton.click()
    assert len(finished.state.table.rows()) == 1
    assert "Slice 4 is as the model drew it" in text_of(finished.ui.resultMessageLabel)
    show(finished, 3)
    finished.ui.useCorrectedButton.click()
    assert len(finished.state.table.rows()) == 1, "that was asked about another slice"
    finished.ui.useCorrectedButton.click()
    assert finished.state.table.rows()[1].slices == (3,)


def test_of_two_parallel_views_the_one_that_was_scrolled_last_is_meant(finished):
    import slicer

    red = finished.slice_views[0]
    second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red+")
    second.SetLayoutName("Red+")
    second.SetOrientation("Axial")
    finished.refresh()
    erase(finished, 3)
    erase(finished, 4)
    for view, index in ((red, 3), (second, 4), (red, 3)):
        view.JumpSliceByOffsetting(12.0, -12.0, 4.0 * index + 1)
        view.JumpSliceByOffsetting(12.0, -12.0, 4.0 * index)
        finished.ui.useCorrectedButton.click()
        assert f"Slice {index} is now" in text_of(finished.ui.resultMessageLabel)


def test_views_of_different_slices_without_a_last_one_are_asked_about(finished):
    import slicer

    from ProxyPromptSegmentModule.scene.last_view import LastView

    show(finished, 3)
    second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red+")
    second.SetLayoutName("Red+")
    second.SetOrientation("Axial")
    second.JumpSliceByOffsetting(12.0, -12.0, 20.0)
    views = LastView(slicer.mrmlScene, dict)
    assert views.slice_on_screen(finished.new_case, "k") == (None, {"Red": 3, "Red+": 5})
    views.stop()


def test_a_slice_without_annotation_is_refused_as_support(finished):
    show(finished, 7)
    finished.ui.useCorrectedButton.click()
    finished.ui.useCorrectedButton.click()
    assert len(finished.state.table.rows()) == 1
    told = text_of(finished.ui.resultMessageLabel)
    assert "7" in told and "is now a support" not in told


def test_table_and_record_can_be_shown_where_they_are(finished):
    from ProxyPromptSegmentModule.scene import result_nodes

    assert finished.ui.tableButton.toolTip == "This result has no table."
    result_nodes.write(finished.result, Table(("object",), ("",), [["prostate"]]), "{}")
    finished.refresh()
    assert finished.ui.tableButton.enabled and finished.ui.recordButton.enabled
    shown = []
    finished.sections.result._show_in_view = shown.append
    finished.ui.recordButton.click()
    (table,) = shown
    assert table.GetNodeReference(result_nodes.AS_TABLE) is result_nodes.record_of(finished.result)
    assert table is not result_nodes.table_of(finished.result)


def test_the_why_view_shows_pictures_of_what_was_read(finished):
    import slicer

    ui = finished.ui
    slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS([3.0, 4.0, 8.0])
    ui.whyObjectCombo.currentIndex = 1
    ui.whyCrosshairButton.click()
    kind, ras, name, on_answer = finished.host.logic.asked[-1]
    assert (kind, ras, name) == ("why", (3.0, 4.0, 8.0), "tumour")
    heat = np.zeros((20, 30), np.float32)
    heat[4, 5] = 0.7
    why = types.SimpleNamespace(
        name="tumour",
        sentence="70 % lies on it.",
        caveat="Not finer.",
        probability=0.9,
        shares=[0.001, 0.7],
        maps=(heat, heat),
        patches=(types.SimpleNamespace(pair=1, box=(2, 3, 6, 7)),),
    )
    on_answer(why, "")
    assert text_of(ui.whyLabel) == "70 % lies on it.\nProbability of tumour at this point: 90 %.\nNot finer."
    assert ui.whyList.count == 1 and ui.whyList.item(0).text() == "70 %, slice 4\nearlier"
    assert not ui.whyList.item(0).icon().isNull()
    on_answer(None, "this point lies outside of the volume.")
    assert text_of(ui.whyLabel) == "This point lies outside of the volume." and ui.whyList.count == 0


def test_a_click_into_a_view_asks_where_the_mouse_is(finished, monkeypatch):
    import slicer
    import vtk

    from ProxyPromptSegmentModule.panel import why_section

    interactor = vtk.vtkGenericRenderWindowInteractor()
    monkeypatch.setattr(why_section, "slice_interactors", lambda: [interactor])
    asked = [one for one in finished.host.logic.asked if one[0] == "why"]
    finished.ui.whyPointButton.click()
    interactor.InvokeEvent("LeftButtonPressEvent")  # the mouse is in no view
    slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCursorPositionRAS([1.0, 2.0, 3.0])
    interactor.InvokeEvent("LeftButtonPressEvent")
    finished.exit()
    interactor.InvokeEvent("LeftButtonPressEvent")
    assert not finished.ui.whyPointButton.checked
    asked = [one for one in finished.host.logic.asked if one[0] == "why"]
    assert [one[1] for one in asked] == [(1.0, 2.0, 3.0)]


def test_findings_of_the_check_are_given_in_words(ready):
    ready.ui.checkSupportsButton.click()
    assert not ready.ui.checkSupportsButton.enabled
    finding = Finding("warning", "the annotation has 3 parts.")
    other = Finding("warning", "it shows another plane.", remedy=Remedy(kind=RemedyKind.CHOOSE_AXIS))
    ready.host.logic.asked[-1][1]([finding, other], "")
    shown = text_of(ready.ui.supportMessageLabel)
    assert "The annotation has 3 parts." in shown.replace("⚠ t", "T")
    assert "it shows another plane. Choose another plane under “Slices along”." in shown
    assert ready.ui.checkSupportsButton.enabled
    ready.ui.checkSupportsButton.click()
    ready.host.logic.asked[-1][1]([], "")
    assert text_of(ready.ui.supportMessageLabel) == "No problems were found with these supports."


def test_a_live_preview_leaves_corrected_slices_alone(finished):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import show_slice

    erase(finished, 4)
    show(finished, 4)
    finished.ui.useCorrectedButton.click()
    finished.ui.scopeCombo.currentIndex = 3
    finished.ui.applyButton.click()
    run = finished.host.logic.runs[-1]
    assert run.is_live and run.request.first is None
    show_slice(slicer.mrmlScene, finished.new_case, "k", 3)
    show_slice(slicer.mrmlScene, finished.new_case, "k", 4)
    assert 3 in finished.host.logic.shown and 4 not in finished.host.logic.shown


def test_a_film_is_described_in_items(finished):
    finished.last.request = types.SimpleNamespace(browser=object(), target=finished.new_case)
    finished.last.doubts = [doubt(6)]
    finished.last.tell()
    assert finished.ui.doubtsList.item(0).text().startswith("Item 6 ")
    assert "Finished; items written: 8." in text_of(finished.ui.runLabel)
