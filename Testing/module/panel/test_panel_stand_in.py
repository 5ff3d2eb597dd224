"""The panel over a real scene, with stand-ins for Slicer's widgets: what is enabled, said, kept, and asked for."""

from __future__ import annotations

import json

import pytest

from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
from ProxyPromptSegmentLib.worker.events import Forecasted
from widget_cases import RecordedLogic, add_case, estimate_of, finish, text_of


def test_an_empty_scene_shows_a_panel_that_says_what_to_do_first(panel):
    assert not panel.ui.applyButton.enabled
    assert "Add a support first" in text_of(panel.ui.reasonLabel)
    assert panel.ui.applyButton.toolTip == panel.ui.reasonLabel.text
    assert "Select the segmentation" in panel.ui.addSupportButton.toolTip
    assert "Research use only" in panel.ui.researchLabel.text
    assert panel.ui.firstRunFrame.real.isHidden()


def test_every_disabled_button_says_why(panel):
    buttons = [one for name, one in vars(panel.ui).items() if name.endswith("Button") and hasattr(one, "clicked")]
    assert len(buttons) > 20
    for button in buttons:
        assert button.toolTip, button
        if not button.enabled and not button.real.isHidden():
            assert button.toolTip.endswith((".", "”.")), button.toolTip


def test_defaults_are_the_annotated_case_and_the_other_volume(make_panel):
    support, annotation = add_case("earlier")
    target, _ = add_case("new", objects=())
    panel = make_panel()
    assert panel.ui.supportSegmentationSelector.currentNode() is annotation
    assert panel.ui.supportVolumeSelector.currentNode() is support
    assert panel.ui.targetSelector.currentNode() is target
    assert panel.ui.addSupportButton.enabled


def test_adding_a_support_fills_the_table_and_allows_apply(ready):
    table = ready.ui.supportTable
    assert table.rowCount == 1
    assert table.item(0, 1).text() == "earlier"
    assert table.item(0, 2).text() == "prostate\ntumour" and not table.item(0, 2).icon().isNull()
    assert not table.item(0, 0).icon().isNull()
    assert ready.ui.objectsList.count == 2
    assert ready.ui.applyButton.enabled and ready.ui.reasonLabel.real.isHidden()
    assert ready.ui.applyButton.toolTip == "Segments prostate, tumour in new."
    assert ready.ui.estimateLabel.text == "About 12 s, 550 MB of memory."


def test_no_estimate_of_earlier_choices_is_shown_while_another_is_made(ready):
    answers, ui = [], ready.ui
    ready.host.logic.estimate_later = lambda request, on_answer: answers.append(on_answer)
    ready.state.parameters.tiles = "4"
    assert ui.estimateLabel.text == "Estimating time and memory…"
    ready.state.parameters.tiles = "6"
    answers[0](estimate_of(tiles=4), "")  # of choices that were changed meanwhile
    assert ui.estimateLabel.text == "Estimating time and memory…" and len(answers) == 2
    answers[1](estimate_of(tiles=9), "")
    assert ui.estimateLabel.text == "About 12 s, 550 MB of memory. Each slice is cut into 9 tiles."
    ready.state.parameters.tiles = "8"
    ui.applyButton.click()
    answers[2](estimate_of(tiles=16), "")
    assert ui.estimateLabel.real.isHidden()  # the run is in progress
    ready.host.logic.runs[0].end()
    assert "16 tiles" not in ui.estimateLabel.text  # the first run loaded the model, so it is estimated again


def test_supports_are_prepared_while_nothing_runs_and_only_for_the_choices_of_now(ready):
    prepared, answers = ready.host.logic.prepared, []
    assert [case.volume.name for case in prepared[-1].cases] == ["earlier"]
    assert prepared[-1].target.GetName() == "new"
    ready.host.logic.estimate_later = lambda request, on_answer: answers.append(on_answer)
    before = len(prepared)
    ready.state.parameters.tiles = "4"
    ready.state.parameters.tiles = "6"
    answers[0](estimate_of(), "")  # of choices that were changed meanwhile
    assert len(prepared) == before
    answers[1](None, "no model")
    assert len(prepared) == before, "a run will say why"
    ready.state.parameters.tiles = "8"
    ready.ui.applyButton.click()
    answers[2](estimate_of(), "")
    assert len(prepared) == before, "the run prepares them itself"


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cpu", "Measured on the first slices: about 40 s in all; 3D Slicer then takes 1.2 GB of memory."),
        ("cuda:0", "Measured on the first slices: about 40 s in all, and 1.2 GB of the graphics card's memory."),
    ],
)
def test_what_a_run_takes_is_shown_once_its_first_slices_were_measured(ready, device, words):
    label = ready.ui.estimateLabel
    ready.ui.applyButton.click()
    run = ready.host.logic.runs[0]
    run.writes(1, 24, 0)
    assert label.real.isHidden()
    run.forecast = Forecasted(1, 40.2, 1_230_000_000, device)
    run.writes(4, 24, 3)
    assert label.text == words and not label.real.isHidden()
    ready.state.changed.emit()  # whatever is chosen meanwhile for the next run
    assert label.text == words
    run.end()
    assert label.text == "About 9 s, 300 MB of memory.", "of the next run, whose model is loaded"


def test_a_support_that_cannot_be_used_is_refused_in_words(make_panel):
    volume, annotation = add_case("earlier")
    panel = make_panel()
    panel.ui.supportSlicesCombo.currentIndex = 2
    assert "Enter the slices" in panel.ui.addSupportButton.toolTip
    panel.ui.supportSlicesEdit.text = "0"
    panel.ui.addSupportButton.click()
    assert panel.ui.supportTable.rowCount == 0
    assert "0" in text_of(panel.ui.supportMessageLabel) and not panel.ui.supportMessageLabel.real.isHidden()
    panel.ui.supportSlicesEdit.text = "x"
    panel.ui.addSupportButton.click()
    assert "write slices as" in text_of(panel.ui.supportMessageLabel)
    panel.ui.supportSlicesEdit.text = "3, 5"
    panel.ui.addSupportButton.click()
    assert panel.state.table.rows()[0].slices == (3, 5)


def test_only_the_ticked_segments_prompt(make_panel, stand_ins):
    from PySide6.QtCore import Qt

    add_case("earlier")
    panel = make_panel()
    panel.ui.supportSegmentsList.item(1).setCheckState(Qt.Unchecked)
    panel.ui.addSupportButton.click()
    assert [one.name for one in panel.state.table.rows()[0].objects] == ["prostate"]
    panel.ui.supportSegmentsList.item(0).setCheckState(Qt.Unchecked)
    assert panel.ui.addSupportButton.toolTip == "Tick at least one segment."


def test_apply_becomes_cancel_and_apply_again(ready):
    ready.ui.applyButton.click()
    run = ready.host.logic.runs[0]
    assert ready.ui.applyButton.text == "Cancel"
    assert run.request.target is ready.new_case and run.request.objects == ("prostate", "tumour")
    assert len(run.request.cases) == 1 and run.request.slices is None
    run.writes(3, 8, 2)
    assert not ready.ui.progressBar.real.isHidden()
    assert ready.ui.progressBar.format == "Segmenting, new: 3 of 8, about 40 s left"
    assert (ready.ui.progressBar.value, ready.ui.progressBar.maximum) == (3, 8)
    ready.ui.applyButton.click()
    assert run.cancelled and not ready.ui.applyButton.enabled
    run.end("cancelled")
    assert ready.ui.applyButton.text == "Apply" and ready.ui.applyButton.enabled
    assert "Cancelled; slices done and kept: 1." in text_of(ready.ui.runLabel)


def test_a_failed_run_says_why(ready):
    ready.ui.applyButton.click()
    ready.host.logic.runs[0].end("failed", error="the device ran out of memory; choose the CPU.")
    assert text_of(ready.ui.runLabel) == "The device ran out of memory; choose the CPU."
    assert ready.ui.applyButton.text == "Apply"


def test_an_error_before_the_run_is_a_sentence_and_no_run(ready):
    from ProxyPromptSegmentLib.errors import UsageError

    def refuse(request):
        raise UsageError("there is no such axis.")

    ready.host.logic.start = refuse
    ready.ui.applyButton.click()
    assert text_of(ready.ui.runLabel) == "There is no such axis."
    assert ready.ui.applyButton.text == "Apply" and ready.state.run is None


def test_without_a_ticked_support_or_object_apply_says_so(ready):
    from PySide6.QtCore import Qt

    ready.ui.objectsList.item(0).setCheckState(Qt.Unchecked)
    ready.ui.objectsList.item(1).setCheckState(Qt.Unchecked)
    assert text_of(ready.ui.reasonLabel) == "Tick at least one object to segment."
    ready.ui.supportTable.item(0, 0).setCheckState(Qt.Unchecked)
    assert text_of(ready.ui.reasonLabel) == "Tick at least one support in the table."


def test_a_support_is_called_otherwise_in_the_table(ready):
    ready.ui.supportTable.item(0, 1).setText("Case A")
    assert ready.state.table.rows()[0].title == "Case A"


def test_closing_the_scene_empties_the_panel_also_while_a_run_goes_on(ready):
    import slicer

    ready.ui.applyButton.click()
    run = ready.host.logic.runs[0]
    slicer.mrmlScene.Clear(False)
    assert ready.state.run is None and ready.state.has_scene
    assert ready.ui.supportTable.rowCount == 0 and ready.ui.objectsList.count == 0
    assert "Add a support first" in text_of(ready.ui.reasonLabel)
    run.sentences.append("a late word of the former scene")
    run.writes(1, 8, 0)
    assert ready.ui.applyButton.text == "Apply" and "late word" not in text_of(ready.ui.runLabel)
    add_case("earlier")
    ready.enter()
    ready.ui.addSupportButton.click()
    assert ready.ui.supportTable.rowCount == 1


def test_what_was_said_of_a_scene_goes_with_it(ready):
    import slicer

    ready.ui.applyButton.click()
    ready.host.logic.runs[0].end("finished", written={1, 2})
    assert "slices written: 2" in text_of(ready.ui.runLabel)
    ready.sections.supports_table.on_findings([], "")
    slicer.mrmlScene.Clear(False)
    assert text_of(ready.ui.runLabel) == "" and text_of(ready.ui.supportMessageLabel) == ""


def test_whoever_opens_the_module_has_torch_loaded_before_pressing_apply(ready):
    before = ready.host.logic.warmed
    ready.enter()
    assert ready.host.logic.warmed == before + 1
    ready.state.missing = ["torch>=2.6"]
    ready.sections.install.requirements.missing = lambda: ["torch>=2.6"]
    ready.enter()
    assert ready.host.logic.warmed == before + 1, "nothing may be imported before it is installed"


def test_deleted_nodes_leave_the_choices(ready):
    import slicer

    slicer.mrmlScene.RemoveNode(ready.new_case)
    assert ready.state.parameters.targetVolume is None
    assert ready.ui.targetSelector.currentNode() is None
    assert text_of(ready.ui.reasonLabel) == "Select the volume to segment."
    slicer.mrmlScene.RemoveNode(ready.annotation)
    assert ready.state.table.rows()[0].problem
    assert ready.ui.supportTable.item(0, 4).text() == "⚠"
    assert ready.ui.supportTable.item(0, 4).toolTip() == ready.state.table.rows()[0].problem
    assert "tick" not in text_of(ready.ui.reasonLabel).lower() and text_of(ready.ui.reasonLabel)


def test_the_result_of_a_deleted_segmentation_is_gone(ready):
    import slicer

    ready.ui.applyButton.click()
    result = finish(ready, ready.host.logic.runs[0])
    assert ready.ui.undoButton.enabled
    slicer.mrmlScene.RemoveNode(result)
    assert ready.state.run is None and not ready.ui.undoButton.enabled
    assert ready.state.parameters.outputSegmentation is None


def test_choices_come_back_with_the_parameter_node(ready, make_panel):
    from PySide6.QtCore import Qt

    ready.ui.scopeCombo.currentIndex = 1
    ready.ui.sliceRange.setValues(2, 5)
    ready.ui.thresholdSlider.value = 0.35
    ready.ui.axisCombo.currentIndex = 1
    ready.ui.tilesCombo.currentIndex = 4
    ready.ui.objectsList.item(0).setCheckState(Qt.Unchecked)
    ready.ui.followViewBox.click()
    again = make_panel(RecordedLogic())
    ui = again.ui
    assert ui.supportTable.rowCount == 1 and ui.targetSelector.currentNode() is ready.new_case
    assert (ui.sliceRange.minimumValue, ui.sliceRange.maximumValue) == (2, 5)
    assert ui.thresholdSlider.value == pytest.approx(0.35)
    assert ui.axisCombo.currentText == "axial (8 slices)"
    assert ui.tilesCombo.currentText == "3 times larger"
    assert again.ui.objectsList.item(0).checkState() == Qt.Unchecked
    assert not ui.followViewBox.checked
    ui.applyButton.click()
    request = again.host.logic.runs[0].request
    assert request.slices == (2, 3, 4, 5) and request.objects == ("tumour",)
    assert request.settings.threshold == pytest.approx(0.35) and request.settings.axis == "k"
    assert request.settings.tiles == "3"


def test_a_saved_scene_brings_the_choices_back(ready, tmp_path):
    import slicer

    ready.ui.scopeCombo.currentIndex = 1
    ready.ui.sliceRange.setValues(1, 3)
    text = tmp_path / "scene.mrml"
    slicer.mrmlScene.SetURL(str(text))
    slicer.mrmlScene.SetRootDirectory(str(tmp_path))
    for name in ("earlier", "new"):
        node = slicer.util.getNode(name)
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(str(tmp_path / f"{name}.nrrd"))
        node.GetStorageNode().WriteData(node)
    ready.annotation.AddDefaultStorageNode()
    ready.annotation.GetStorageNode().SetFileName(str(tmp_path / "annotation.seg.nrrd"))
    ready.annotation.GetStorageNode().WriteData(ready.annotation)
    assert slicer.mrmlScene.Commit()
    slicer.mrmlScene.Clear(False)
    slicer.mrmlScene.SetURL(str(text))
    assert slicer.mrmlScene.Import()
    assert ready.ui.supportTable.rowCount == 1 and ready.state.table.rows()[0].problem == ""
    assert ready.ui.targetSelector.currentNode().GetName() == "new"
    assert ready.chosen.target.slices() == (1, 2, 3)


def test_a_damaged_parameter_means_all(ready):
    ready.state.parameters.objects = "[1"
    assert ready.chosen.objects.names() == ("prostate", "tumour")
    ready.state.parameters.objects = json.dumps({"a": 1})
    assert ready.chosen.objects.names() == ("prostate", "tumour")


def test_tiles_are_automatic_until_something_else_is_chosen(ready):
    combo = ready.ui.tilesCombo
    assert (combo.currentText, combo.enabled) == ("Automatic", True)
    chosen = []
    for index in range(combo.count):
        combo.currentIndex = index
        chosen.append(ready.state.parameters.tiles)
    assert chosen == ["auto", "off", "on", "2", "3", "4", "6", "8"]
    assert ready.ui.estimateLabel.text == "About 12 s, 550 MB of memory. Each slice is cut into 9 tiles."
    for text in chosen:
        assert str(TileChoice.of(text)) == text
    ready.state.parameters.tiles = "2.5"  # by a script
    ready.ui.applyButton.click()
    assert ready.host.logic.runs[0].request.settings.tiles == "2.5"


def test_a_script_that_changes_the_parameter_node_is_followed(ready):
    ready.state.parameters.parameterNode.SetParameter("scope", "slices")  # past the wrapper
    assert ready.ui.scopeCombo.currentIndex == 1 and not ready.ui.sliceRange.real.isHidden()
    ready.state.parameters.threshold = 0.7
    assert ready.ui.thresholdSlider.value == pytest.approx(0.7)


def test_cleanup_ends_the_logic_and_listens_no_more(make_panel):
    import slicer

    panel = make_panel()
    panel.cleanup()
    assert panel.host.logic.is_shut and not panel.host.Observations
    add_case("earlier")
    slicer.mrmlScene.Clear(False)
    panel.cleanup()


def test_a_panel_that_was_reloaded_while_open_survives_that_the_scene_is_closed(make_panel):
    import types

    import slicer

    panel = make_panel()
    panel.exit()
    slicer.mrmlScene.Clear(False)
    assert panel.state.has_scene is False  # nobody looks: no node is put into the scene
    panel.enter()
    panel._entered = False  # as after a reload, which calls no `enter`
    panel.host.parent = types.SimpleNamespace(isEntered=True)
    slicer.mrmlScene.Clear(False)
    assert panel.state.has_scene and panel.state.table is not None
