"""The panel after Apply, with stand-ins for Slicer's widgets: views, results, corrections, why."""

from __future__ import annotations

import types

import numpy as np
import pytest

from mrml_scene import add_segmentation, segment_array
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.reports.results_table import Doubt, Table
from ProxyPromptSegmentLib.review.findings import Finding
from widget_cases import add_case, as_result, text_of


def _job(axis="k"):
    pair = types.SimpleNamespace(image=np.eye(20, 30, dtype=np.float32))
    shown = types.SimpleNamespace(name="earlier", index=4)
    return types.SimpleNamespace(
        view=types.SimpleNamespace(axis=axis),
        support=types.SimpleNamespace(objects=("prostate", "tumour"), pairs=(pair, pair)),
        shown=(shown, shown),
    )


def _doubt(index, name="prostate", sure=0.5):
    return Doubt(index, name, 0.5, "unlike its neighbours", sure, 0, f"{index} (S 18.0 mm)")


def _finish(run, target):
    """End a run on a target: its result is in the scene, as the logic leaves it."""
    from ProxyPromptSegmentModule.scene.facts import Facts, Lowest

    mask = np.zeros((8, 24, 24), np.uint8)
    mask[2:6, 5:12, 5:12] = 1
    mask[3, 5:12, 12:14] = 1
    result = add_segmentation(target, {"prostate": mask, "tumour": mask}, f"{target.GetName()} result")
    doubts = {"prostate": (_doubt(6, sure=0.2), _doubt(1))}
    as_result(target, result, Facts(doubts=doubts, lowest={"prostate": Lowest(0.5, 6, "S 18.0 mm")}))
    run.job = _job()
    ids = {"prostate": "prostate", "tumour": "tumour"}
    run.end(segmentation=result, segment_ids=ids, written=set(range(8)))
    return result


@pytest.fixture
def finished(ready):
    """The same after a run that wrote two objects."""
    ready.ui.applyButton.click()
    ready.last = ready.host.logic.runs[0]
    ready.result = _finish(ready.last, ready.new_case)
    return ready


def test_the_views_follow_the_slices_that_are_written_if_asked(ready):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import slice_on_screen

    ready.ui.applyButton.click()
    run = ready.host.logic.runs[0]
    run.job = _job()
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
    assert ui.resultsTable.horizontalHeaderItem(1).text() == "Volume [ml]"
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


def _erase(finished, index, node=None, volume=None):
    """Correct a slice of the prostate by hand."""
    import slicer

    node, volume = node or finished.result, volume or finished.new_case
    mask = segment_array(node, "prostate", volume)
    mask[index, 5:8] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "prostate", volume)
    finished.refresh()


def _show(finished, index):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import show_slice

    show_slice(slicer.mrmlScene, finished.new_case, "k", index)


def test_a_corrected_slice_becomes_a_support_and_is_not_written_again(finished):
    from ProxyPromptSegmentModule.scene.segment_state import changed_slices

    for index in (4, 2, 2):
        _erase(finished, index)
        _show(finished, index)
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
    _show(finished, 4)
    finished.ui.useCorrectedButton.click()
    assert len(finished.state.table.rows()) == 1
    assert "Slice 4 is as the model drew it" in text_of(finished.ui.resultMessageLabel)
    _show(finished, 3)
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
    _erase(finished, 3)
    _erase(finished, 4)
    for view, index in ((red, 3), (second, 4), (red, 3)):
        view.JumpSliceByOffsetting(12.0, -12.0, 4.0 * index + 1)
        view.JumpSliceByOffsetting(12.0, -12.0, 4.0 * index)
        finished.ui.useCorrectedButton.click()
        assert f"Slice {index} is now" in text_of(finished.ui.resultMessageLabel)


def test_views_of_different_slices_without_a_last_one_are_asked_about(finished):
    import slicer

    from ProxyPromptSegmentModule.scene.last_view import LastView

    _show(finished, 3)
    second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red+")
    second.SetLayoutName("Red+")
    second.SetOrientation("Axial")
    second.JumpSliceByOffsetting(12.0, -12.0, 20.0)
    views = LastView(slicer.mrmlScene, dict)
    assert views.slice_on_screen(finished.new_case, "k") == (None, {"Red": 3, "Red+": 5})
    views.stop()


def test_a_slice_without_annotation_is_refused_as_support(finished):
    _show(finished, 7)
    finished.ui.useCorrectedButton.click()
    finished.ui.useCorrectedButton.click()
    assert len(finished.state.table.rows()) == 1
    told = text_of(finished.ui.resultMessageLabel)
    assert "7" in told and "is now a support" not in told


def test_table_and_record_can_be_shown_where_they_are(finished):
    import slicer

    from ProxyPromptSegmentModule.scene import result_nodes

    assert finished.ui.tableButton.toolTip == "This result has no table."
    result_nodes.write(finished.result, Table(("object",), ("",), [["prostate"]]), "{}")
    finished.refresh()
    assert finished.ui.tableButton.enabled and finished.ui.recordButton.enabled
    opened = []
    slicer.app.openNodeModule = opened.append
    finished.ui.recordButton.click()
    assert opened == [result_nodes.record_of(finished.result)]


def test_what_the_scene_knows_about_a_result_is_offered_without_its_run(finished):
    import slicer

    from ProxyPromptSegmentModule.scene import result_nodes
    from ProxyPromptSegmentModule.scene.slice_views import slice_on_screen

    result_nodes.write(finished.result, Table(("object",), ("",), [["prostate"]]), "{}")
    listed = [finished.ui.doubtsList.item(n).text() for n in range(2)]
    finished.state.run = None  # as after a saved scene was loaded
    finished.state.parameters.outputSegmentation = None
    finished.refresh()
    ui = finished.ui
    assert ui.tableButton.enabled and ui.recordButton.enabled and ui.editButton.enabled
    assert ui.resultsTable.rowCount == 2 and [ui.doubtsList.item(n).text() for n in range(2)] == listed
    ui.doubtsList.real.itemClicked.emit(ui.doubtsList.item(1))
    assert slice_on_screen(slicer.mrmlScene, finished.new_case, "k") == 1
    assert not ui.undoButton.enabled and "not known any more" in ui.undoButton.toolTip
    _erase(finished, 4)
    _show(finished, 4)
    ui.useCorrectedButton.click()
    assert finished.state.table.rows()[1].slices == (4,)


def test_results_follow_the_selected_target(finished):
    """Results, doubts, undo, table and "Write into" are those of the target, and come back with it."""
    third, _ = add_case("third", objects=())
    ui, first = finished.ui, finished.last
    assert ui.resultButton.text == "Results of new"
    ui.targetSelector.setCurrentNode(third)
    assert ui.resultButton.text == "Results" and ui.doubtsList.count == 0 and ui.resultsTable.real.isHidden()
    for button in (ui.undoButton, ui.redoButton, ui.tableButton, ui.editButton, ui.useCorrectedButton):
        assert not button.enabled and button.toolTip == "There is no result yet; press Apply."
    assert not finished.result.GetDisplayNode().GetVisibility(), "another patient's result lies on the target"
    assert text_of(ui.runLabel) == "" and ui.show3DButton.segmentationNode() is None
    ui.applyButton.click()
    second = finished.host.logic.runs[-1]
    assert second.request.output.segmentation is None
    result = _finish(second, third)
    assert ui.resultButton.text == "Results of third" and finished.state.parameters.outputSegmentation is result
    ui.targetSelector.setCurrentNode(finished.new_case)
    assert finished.state.parameters.outputSegmentation is finished.result
    assert finished.result.GetDisplayNode().GetVisibility() and not result.GetDisplayNode().GetVisibility()
    assert ui.resultButton.text == "Results of new" and ui.doubtsList.count == 2
    ui.undoButton.click()
    assert first.taken_back == ["undo"] and second.taken_back == []
    ui.targetSelector.setCurrentNode(third)
    ui.undoButton.click()
    assert second.taken_back == ["undo"]


def test_a_result_that_arrives_while_another_target_is_selected_is_hidden(finished):
    third, _ = add_case("third", objects=())
    ui = finished.ui
    ui.applyButton.click()
    ui.targetSelector.setCurrentNode(third)
    late = _finish(finished.host.logic.runs[-1], finished.new_case)
    assert finished.state.parameters.outputSegmentation is None and not late.GetDisplayNode().GetVisibility()
    assert ui.resultButton.text == "Results"
    ui.targetSelector.setCurrentNode(finished.new_case)
    assert late.GetDisplayNode().GetVisibility() and ui.resultButton.text == "Results of new"


def test_correct_by_hand_opens_the_result_of_the_target_with_its_image(finished):
    import slicer

    third, _ = add_case("third", objects=())
    opened = {}
    editor = types.SimpleNamespace(
        setSegmentationNode=lambda node: opened.update(node=node),
        setSourceVolumeNode=lambda node: opened.update(on=node),
    )
    widget = types.SimpleNamespace(self=lambda: types.SimpleNamespace(editor=editor))
    slicer.modules.segmenteditor = types.SimpleNamespace(widgetRepresentation=lambda: widget)
    slicer.util.selectModule = lambda name: None
    finished.ui.targetSelector.setCurrentNode(third)
    finished.ui.applyButton.click()
    _finish(finished.host.logic.runs[-1], third)
    finished.ui.targetSelector.setCurrentNode(finished.new_case)
    finished.ui.editButton.click()
    assert opened == {"node": finished.result, "on": finished.new_case}


def test_numbers_in_the_panel_follow_a_correction(finished):
    before = [finished.ui.resultsTable.item(0, n).text() for n in range(4)]
    _erase(finished, 4)
    after = [finished.ui.resultsTable.item(0, n).text() for n in range(4)]
    assert before == ["prostate", "0.84", "4", "2-5"] and after == ["prostate", "0.756", "4", "2-5"]
    changed = finished.ui.resultsTable.columnCount - 1
    assert finished.ui.resultsTable.item(0, changed).text() == "4"
    assert text_of(finished.ui.changedLabel) == "Changed by hand and left as they are: prostate: 4."


def test_changed_slices_are_replaced_only_by_the_run_that_was_asked_for(finished):
    assert finished.ui.replaceChangedBox.real.isHidden()
    _erase(finished, 4)
    assert not finished.ui.replaceChangedBox.real.isHidden()
    finished.ui.applyButton.click()
    assert not finished.host.logic.runs[-1].request.output.replace_changed
    finished.host.logic.runs[-1].end("cancelled")
    finished.ui.replaceChangedBox.click()
    finished.ui.applyButton.click()
    assert finished.host.logic.runs[-1].request.output.replace_changed
    finished.host.logic.runs[-1].end("cancelled")
    assert not finished.ui.replaceChangedBox.checked


def test_the_views_stand_on_the_largest_section_after_a_run(finished):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import slice_on_screen

    assert slice_on_screen(slicer.mrmlScene, finished.new_case, "k") == 3


def test_writing_into_another_target_s_segmentation_is_said(finished):
    third, _ = add_case("third", objects=())
    finished.ui.targetSelector.setCurrentNode(third)
    finished.ui.outputSelector.setCurrentNode(finished.result)
    assert "belongs to new; its segments are kept and new ones are added" in text_of(finished.ui.scopeLabel)


def test_another_target_gets_a_segmentation_of_its_own(finished):
    third, _ = add_case("third", objects=())
    finished.ui.targetSelector.setCurrentNode(third)
    assert finished.state.parameters.outputSegmentation is None
    finished.ui.applyButton.click()
    output = finished.host.logic.runs[-1].request.output
    assert output.segmentation is None and output.segment_ids is None


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

    _erase(finished, 4)
    _show(finished, 4)
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
    finished.last.doubts = [_doubt(6)]
    finished.last.tell()
    assert finished.ui.doubtsList.item(0).text().startswith("Item 6 ")
    assert "Finished; items written: 8." in text_of(finished.ui.runLabel)


def test_the_case_in_the_views_decides_what_is_shown_and_another_contrast_changes_nothing(finished):
    import slicer

    shown = lambda node: bool(node.GetDisplayNode().GetVisibility())  # noqa: E731
    contrast, _ = add_case("new, other contrast", objects=())
    view = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    view.SetBackgroundVolumeID(finished.new_case.GetID())
    assert shown(finished.result) and not shown(finished.annotation)
    view.SetBackgroundVolumeID(contrast.GetID())
    assert shown(finished.result) and not shown(finished.annotation)
    view.SetBackgroundVolumeID(finished.support.GetID())
    assert not shown(finished.result) and shown(finished.annotation)


def test_a_contour_that_the_user_has_hidden_stays_hidden(finished):
    import slicer

    view = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    finished.result.GetDisplayNode().SetVisibility(False)
    for volume in (finished.support, finished.new_case):
        view.SetBackgroundVolumeID(volume.GetID())
    assert not finished.result.GetDisplayNode().GetVisibility()
