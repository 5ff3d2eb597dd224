"""How much of a target is segmented: live, box, range, film; the panel has stand-ins for Slicer's widgets."""

from __future__ import annotations

import numpy as np

from widget_cases import text_of


def test_a_live_preview_follows_the_slice_on_screen_until_it_is_stopped(ready):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import show_slice

    ready.ui.scopeCombo.currentIndex = 3
    ready.ui.applyButton.click()
    run = ready.host.logic.runs[0]
    assert run.is_live and ready.ui.applyButton.text == "Stop the live preview"
    shown = ready.host.logic.shown
    show_slice(slicer.mrmlScene, ready.new_case, "k", 5)
    red = ready.slice_views[0]
    red.SetSliceOffset(red.GetSliceOffset() + 0.3)  # still the same slice
    show_slice(slicer.mrmlScene, ready.new_case, "k", 2)
    assert shown[-2:] == [5, 2] and shown.count(5) == 1
    before = len(shown)
    ready.ui.applyButton.click()
    assert run.closed and ready.ui.applyButton.text == "Apply"
    show_slice(slicer.mrmlScene, ready.new_case, "k", 6)
    assert len(shown) == before


def test_a_live_preview_ends_when_the_module_is_left_or_the_scene_closed(ready):
    import slicer

    ready.ui.scopeCombo.currentIndex = 3
    ready.ui.applyButton.click()
    ready.exit()
    assert ready.host.logic.runs[0].closed
    ready.enter()
    ready.ui.applyButton.click()
    slicer.mrmlScene.Clear(False)
    assert ready.host.logic.runs[1].closed


def test_a_box_chooses_slices_and_says_when_it_misses_the_volume(ready):
    import slicer

    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    ready.ui.scopeCombo.currentIndex = 2
    assert "box" in text_of(ready.ui.reasonLabel)
    ready.ui.roiSelector.setCurrentNode(box)
    assert ready.chosen.target.slices() == tuple(range(8))  # a new box is laid around the whole volume
    box.SetCenterWorld([10.0, 10.0, 10.0])
    box.SetRadiusXYZ([5.0, 5.0, 5.0])  # slices lie at 0, 4, 8, ...
    ready.refresh()
    assert ready.chosen.target.slices() == (1, 2, 3, 4) or ready.chosen.target.slices() == (1, 2, 3)
    ready.ui.applyButton.click()
    assert ready.host.logic.runs[0].request.slices == ready.chosen.target.slices()
    ready.host.logic.runs[0].end("cancelled")
    box.SetCenterWorld([10.0, 10.0, 500.0])
    ready.refresh()
    assert "does not intersect the volume" in text_of(ready.ui.reasonLabel)


def test_a_moved_box_is_asked_about_when_apply_is_pressed(ready):
    import slicer

    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    ready.ui.scopeCombo.currentIndex = 2
    ready.ui.roiSelector.setCurrentNode(box)
    box.SetCenterWorld([10.0, 10.0, 4.0])
    box.SetRadiusXYZ([5.0, 5.0, 1.0])
    ready.ui.applyButton.click()
    assert ready.host.logic.runs[0].request.slices == (1,)


def test_a_colour_volume_can_be_chosen_and_a_label_map_cannot(ready):
    import slicer

    from mrml_scene import add_volume

    colour = add_volume(np.random.default_rng(0).integers(0, 255, (1, 24, 24, 3)).astype(np.uint8), name="photo")
    ready.ui.targetSelector.setCurrentNode(colour)
    assert ready.state.parameters.targetVolume is colour
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    ready.ui.targetSelector.setCurrentNode(labels)
    assert ready.state.parameters.targetVolume is None


def test_the_range_of_slices_moves_the_view(ready):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import slice_on_screen

    ready.ui.scopeCombo.currentIndex = 1
    ready.ui.sliceRange.setValues(2, 7)
    assert slice_on_screen(slicer.mrmlScene, ready.new_case, "k") == 2
    ready.ui.sliceRange.setValues(2, 5)
    assert slice_on_screen(slicer.mrmlScene, ready.new_case, "k") == 5
    assert text_of(ready.ui.scopeLabel) == "4 of 8 slices."


def test_a_film_is_offered_as_a_whole_and_asks_for_its_browser(ready):
    import slicer

    from mrml_scene import add_volume

    frame = add_volume(np.random.default_rng(1).integers(0, 99, (1, 24, 24)).astype(np.int16), name="cine")
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine frames")
    for number in range(3):
        sequence.SetDataNodeAtValue(frame, str(number))
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(frame, sequence, False)
    ready.ui.targetSelector.setCurrentNode(frame)
    assert ready.ui.scopeCombo.currentText == "Whole sequence"
    assert ready.ui.outputSelector.real.isHidden()
    ready.ui.applyButton.click()
    run = ready.host.logic.runs[0]
    assert run.request.browser is browser and run.request.slices is None
    run.writes(1, 3, 2)
    assert browser.GetSelectedItemNumber() == 2
    run.end(segmentation=ready.annotation, written={0, 1, 2})
    assert ready.ui.whyPointButton.toolTip == "Not available for sequences." and not ready.ui.useCorrectedButton.enabled


def test_the_segment_editors_masking_is_passed_on_if_ticked(ready):
    import slicer

    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    ready.ui.honourEditorBox.click()
    ready.ui.applyButton.click()
    assert ready.host.logic.runs[0].request.output.editor is editor


def test_another_choice_during_a_live_preview_waits_until_it_has_ended(ready):
    from PySide6.QtCore import Qt

    from widget_cases import add_case

    volume, annotation = add_case("second")
    ready.ui.supportSegmentationSelector.setCurrentNode(annotation)
    ready.ui.supportVolumeSelector.setCurrentNode(volume)
    ready.ui.addSupportButton.click()
    ready.ui.scopeCombo.currentIndex = 3
    ready.ui.applyButton.click()
    (run,) = ready.host.logic.runs
    run.close = lambda: None  # a slice is still being computed
    ready.ui.supportTable.item(1, 0).setCheckState(Qt.Unchecked)
    ready.ui.supportTable.item(1, 0).setCheckState(Qt.Checked)
    ready.ui.supportTable.item(1, 0).setCheckState(Qt.Unchecked)
    assert len(ready.host.logic.runs) == 1  # its segments would be taken for somebody else's now
    run.segment_ids = {"prostate": "S1"}
    run.end(segmentation=_result_of(ready))
    assert len(ready.host.logic.runs) == 2
    request = ready.host.logic.runs[1].request
    assert len(request.cases) == 1 and request.output.reuse
    assert ready.ui.applyButton.text == "Stop the live preview"
    ready.host.logic.runs[1].close = lambda: None
    ready.ui.supportTable.item(1, 0).setCheckState(Qt.Checked)
    ready.ui.applyButton.click()  # nobody wants it any more
    ready.host.logic.runs[1].end()
    assert len(ready.host.logic.runs) == 2


def _result_of(panel):
    from mrml_scene import add_segmentation

    mask = np.zeros((8, 24, 24), np.uint8)
    mask[2:6, 5:12, 5:12] = 1
    return add_segmentation(panel.new_case, {"prostate": mask}, "result")


def test_a_live_preview_without_a_view_of_the_target_says_so(ready):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import show_slice

    for node in ready.slice_views:
        node.SetSliceOffset(500.0)
    ready.ui.scopeCombo.currentIndex = 3
    ready.ui.applyButton.click()
    run = ready.host.logic.runs[0]
    assert run.request.first is None and "No slice view shows a slice" in text_of(ready.ui.runLabel)
    show_slice(slicer.mrmlScene, ready.new_case, "k", 5)
    run.tell()
    assert "No slice view" not in text_of(ready.ui.runLabel)


def test_a_box_that_is_moved_in_a_view_is_counted_anew(ready, stand_ins):
    import time

    import slicer

    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    ready.ui.scopeCombo.currentIndex = 2
    ready.ui.roiSelector.setCurrentNode(box)
    assert text_of(ready.ui.scopeLabel) == "8 of 8 slices."
    box.SetCenterWorld([10.0, 10.0, 4.0])
    box.SetRadiusXYZ([5.0, 5.0, 1.0])
    end = time.monotonic() + 10
    while text_of(ready.ui.scopeLabel) != "1 of 8 slices." and time.monotonic() < end:
        stand_ins.process_events()
        time.sleep(0.01)
    assert text_of(ready.ui.scopeLabel) == "1 of 8 slices."
