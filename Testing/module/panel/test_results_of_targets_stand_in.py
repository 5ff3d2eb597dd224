"""Results belong to their target: which are shown, listed, corrected and written into."""

from __future__ import annotations

import types

from finished_runs import erase, finish, show
from ProxyPromptSegmentLib.reports.results_table import Table
from widget_cases import add_case, add_views, text_of


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
    erase(finished, 4)
    show(finished, 4)
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
    result = finish(second, third)
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
    late = finish(finished.host.logic.runs[-1], finished.new_case)
    assert finished.state.parameters.outputSegmentation is None and not late.GetDisplayNode().GetVisibility()
    assert ui.resultButton.text == "Results"
    ui.targetSelector.setCurrentNode(finished.new_case)
    assert late.GetDisplayNode().GetVisibility() and ui.resultButton.text == "Results of new"


def test_what_a_run_says_names_its_image_while_another_is_selected(finished):
    third, _ = add_case("third", objects=())
    ui = finished.ui
    ui.applyButton.click()
    run = finished.host.logic.runs[-1]
    ui.targetSelector.setCurrentNode(third)
    finish(run, finished.new_case)
    assert text_of(ui.runLabel).startswith("“new”: Finished; slices written: 8.")
    ui.targetSelector.setCurrentNode(finished.new_case)
    assert text_of(ui.runLabel) == "Finished; slices written: 8."


def test_an_accepted_slice_counts_as_changed_at_once(finished):
    show(finished, 4)
    for _ in range(2):
        finished.ui.useCorrectedButton.click()
    changed = finished.ui.resultsTable.columnCount - 1
    assert finished.ui.resultsTable.item(0, changed).text() == "4"


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
    finish(finished.host.logic.runs[-1], third)
    finished.ui.targetSelector.setCurrentNode(finished.new_case)
    finished.ui.editButton.click()
    assert opened == {"node": finished.result, "on": finished.new_case}


def test_numbers_in_the_panel_follow_a_correction(finished):
    before = [finished.ui.resultsTable.item(0, n).text() for n in range(4)]
    erase(finished, 4)
    after = [finished.ui.resultsTable.item(0, n).text() for n in range(4)]
    assert before == ["prostate", "0.84", "4", "2-5"] and after == ["prostate", "0.756", "4", "2-5"]
    changed = finished.ui.resultsTable.columnCount - 1
    assert finished.ui.resultsTable.item(0, changed).text() == "4"
    assert text_of(finished.ui.changedLabel) == "Changed by hand and left as they are: prostate: 4."


def test_changed_slices_are_replaced_only_by_the_run_that_was_asked_for(finished):
    assert finished.ui.replaceChangedBox.real.isHidden()
    erase(finished, 4)
    assert not finished.ui.replaceChangedBox.real.isHidden()
    finished.ui.applyButton.click()
    assert not finished.host.logic.runs[-1].request.output.replace_changed
    finished.host.logic.runs[-1].end("cancelled")
    finished.ui.replaceChangedBox.click()
    finished.ui.applyButton.click()
    assert finished.host.logic.runs[-1].request.output.replace_changed
    finished.host.logic.runs[-1].end("cancelled")
    assert not finished.ui.replaceChangedBox.checked


def test_an_answer_about_changed_slices_is_only_for_the_target_and_output_that_it_was_given_for(finished):
    third, _ = add_case("third", objects=())
    ui, first = finished.ui, finished.result
    ui.targetSelector.setCurrentNode(third)
    ui.applyButton.click()
    second = finish(finished.host.logic.runs[-1], third)
    erase(finished, 4, second, third)
    erase(finished, 4)
    ui.replaceChangedBox.click()
    assert finished.state.replace_changed
    ui.targetSelector.setCurrentNode(finished.new_case)
    assert text_of(ui.changedLabel) and not ui.replaceChangedBox.checked
    ui.targetSelector.setCurrentNode(third)
    assert text_of(ui.changedLabel) and not ui.replaceChangedBox.checked
    ui.replaceChangedBox.click()
    ui.outputSelector.setCurrentNode(first)
    ui.outputSelector.setCurrentNode(second)
    ui.applyButton.click()
    assert not finished.host.logic.runs[-1].request.output.replace_changed


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


def test_an_image_that_was_just_loaded_and_is_of_no_case_shows_no_results(finished):
    import slicer

    shown = lambda node: bool(node.GetDisplayNode().GetVisibility())  # noqa: E731
    newcomer, _ = add_case("newcomer", objects=(), size=30)
    view = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    view.SetBackgroundVolumeID(newcomer.GetID())
    assert not shown(finished.result) and not shown(finished.annotation)
    view.SetBackgroundVolumeID(finished.new_case.GetID())
    assert shown(finished.result) and not shown(finished.annotation)


def view_in_scene():
    """The node that says what the first slice view shows."""
    import slicer

    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")


def test_the_first_image_in_empty_views_hides_supports_of_other_cases(ready):
    view = view_in_scene()
    assert not view.GetBackgroundVolumeID()
    view.SetBackgroundVolumeID(ready.new_case.GetID())
    assert not ready.annotation.GetDisplayNode().GetVisibility()


def test_an_image_that_comes_back_into_emptied_views_hides_supports_that_were_added_meanwhile(ready):
    view = view_in_scene()
    view.SetBackgroundVolumeID(ready.new_case.GetID())
    view.SetBackgroundVolumeID(None)
    volume, annotation = add_case("another")
    ready.ui.supportSegmentationSelector.setCurrentNode(annotation)
    ready.ui.supportVolumeSelector.setCurrentNode(volume)
    ready.ui.addSupportButton.click()
    assert annotation.GetDisplayNode().GetVisibility()
    view.SetBackgroundVolumeID(ready.new_case.GetID())
    assert not annotation.GetDisplayNode().GetVisibility()


def test_an_image_on_screen_that_becomes_the_target_hides_the_support_that_was_just_added(make_panel):
    support, annotation = add_case("earlier")
    target, _ = add_case("new", objects=())
    add_views()
    panel = make_panel()
    panel.ui.targetSelector.setCurrentNode(support)
    view_in_scene().SetBackgroundVolumeID(target.GetID())  # on the same grid, and of no case so far
    panel.ui.addSupportButton.click()
    assert panel.state.parameters.targetVolume is target
    assert not annotation.GetDisplayNode().GetVisibility()


def test_a_contour_that_the_user_has_hidden_stays_hidden(finished):
    import slicer

    view = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    finished.result.GetDisplayNode().SetVisibility(False)
    for volume in (finished.support, finished.new_case):
        view.SetBackgroundVolumeID(volume.GetID())
    assert not finished.result.GetDisplayNode().GetVisibility()


def test_the_slices_of_a_result_are_read_once_after_a_change(finished, monkeypatch):
    from ProxyPromptSegmentModule.scene import segment_state

    read = []
    planes = segment_state._planes
    monkeypatch.setattr(segment_state, "_planes", lambda *given: read.append(given[1]) or planes(*given))
    finished.state.parameters.threshold = 0.6
    finished.refresh()
    assert read == [], "nothing was changed"
    erase(finished, 4)
    finished.refresh()
    finished.chosen.requests.request()
    assert len(read) == len(set(read)) and "prostate" in read


def test_a_view_that_has_to_be_turned_is_said_with_the_button_that_turns_it(finished):
    """No scrolling of a view in another plane reaches the slices of the target."""
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import slice_nodes

    for node in slice_nodes(slicer.mrmlScene):
        node.SetOrientation("Coronal")
    finished.ui.useCorrectedButton.click()
    said = text_of(finished.ui.resultMessageLabel)
    assert "No slice view shows a slice of the target: turn one to its plane" in said
    assert "Rotate to volume plane" in said


def test_a_selector_whose_node_is_removed_chooses_nothing_and_no_other_patient_s_node(finished):
    """Slicer's selectors show another node then, into which the next result would be written."""
    import slicer

    third, others = add_case("third")
    ui, parameters = finished.ui, finished.state.parameters
    assert parameters.outputSegmentation is finished.result
    slicer.mrmlScene.RemoveNode(finished.result)
    assert parameters.outputSegmentation is None and ui.outputSelector.currentNode() is None
    ui.applyButton.click()
    assert finished.host.logic.runs[-1].request.output.segmentation is None
    finish(finished.host.logic.runs[-1], finished.new_case)
    ui.supportSegmentationSelector.setCurrentNode(others)
    ui.supportVolumeSelector.setCurrentNode(third)
    for node in (others, third):
        slicer.mrmlScene.RemoveNode(node)
    assert ui.supportSegmentationSelector.currentNode() is None and ui.supportVolumeSelector.currentNode() is None
    slicer.mrmlScene.RemoveNode(finished.new_case)
    assert ui.targetSelector.currentNode() is None and parameters.targetVolume is None
    assert not ui.applyButton.enabled and ui.applyButton.toolTip == "Select the volume to segment."
