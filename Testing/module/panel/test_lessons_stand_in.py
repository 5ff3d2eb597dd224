"""Lessons in the panel: to their end, stopped, and with what goes wrong outside; only widgets are stand-ins."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from lesson_cases import add_taught_case, files, lines, taught, until
from widget_cases import text_of

# --- to the end -------------------------------------------------------------------------------------------------------


def test_a_model_is_taught_tested_kept_anyway_used_and_names_nobody(school, stand_ins, home, monkeypatch):
    import slicer

    from ProxyPromptSegmentLib.training.adapting.result import Verdict

    monkeypatch.setattr(Verdict, "better", property(lambda self: False))
    ui = school.ui
    ui.teachStartButton.click()
    assert ui.teachStartButton.text == "Cancel" and "is being taught" in text_of(ui.reasonLabel)
    assert not ui.applyButton.enabled and not ui.teachCasesList.enabled
    lesson = school.state.lesson
    until(stand_ins, lambda: lesson.losses)
    assert not ui.teachProgressBar.real.isHidden() and not ui.teachCurveLabel.real.isHidden()
    phase = text_of(ui.teachPhaseLabel)
    assert phase.startswith("Training 1 of 2, without the cases that test it. About ") and " left in all." in phase
    assert ui.teachProgressBar.format.endswith(" of 2")
    until(stand_ins, lambda: lesson.ended)
    assert lesson.state == "finished", lesson.error
    said = text_of(ui.teachMessageLabel)
    assert said.startswith("Not better: mean Dice of cases that were left out 0.") and "Nothing was kept." in said
    assert "copied mean mask has 0." in said
    assert ui.teachScoresTable.rowCount == 3 and ui.teachScoresTable.item(0, 0).text() == "Anna Doe"
    assert ui.teachScoresTable.item(2, 0).text() == "Mean" and ui.teachUseButton.real.isHidden()
    assert text_of(ui.teachPictureCaption).startswith("Worst case: ") and not ui.teachPictureLabel.real.isHidden()
    assert not [one for one in files(home) if one.endswith("my-gland.safetensors")]
    ui.teachKeepButton.click()
    lesson = school.state.lesson
    until(stand_ins, lambda: lesson.ended)
    assert lesson.result.kept and "Kept as “my-gland” anyway." in text_of(ui.teachMessageLabel)
    assert [score.after for score in lesson.result.scores] and "my-gland" in [
        row.name for row in school.chosen.model.rows
    ]
    card = (home / "cache" / "my-gland" / "my-gland.md").read_text(encoding="utf-8")
    kept = card + (home / "own.json").read_text(encoding="utf-8")
    assert "Doe" not in kept and "2 patients" in card
    assert b"Doe" not in (home / "cache" / "my-gland" / "my-gland.safetensors").read_bytes()
    ui.teachUseButton.click()
    assert school.state.parameters.model == "my-gland" and ui.modelCombo.currentText.startswith("my-gland")
    assert "There was no support, so that these cases are used: Anna Doe, Bernd Doe." in text_of(ui.teachMessageLabel)
    until(stand_ins, lambda: school.state.run is not None and school.state.run.ended)
    assert school.state.run.state == "finished" and school.state.run.request.settings.model == "my-gland"
    assert school.state.run.request.target is school.new_case
    assert "Doe" not in school.state.parameters.parameterNode.GetParameter("teachName")
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 3


def test_a_target_that_was_taught_is_named_when_the_model_is_used(school, stand_ins):
    import slicer

    school.ui.targetSelector.setCurrentNode(slicer.util.getNode("Anna Doe"))
    assert lines(school)["Anna Doe: also the target"]
    school.ui.teachNameEdit.text = "mine"
    school.ui.teachNameEdit.real.editingFinished.emit()
    lesson = taught(school, stand_ins)
    if not lesson.result.kept:
        school.ui.teachKeepButton.click()
        lesson = school.state.lesson
        until(stand_ins, lambda: lesson.ended)
    school.ui.teachUseButton.click()
    said = text_of(school.ui.teachMessageLabel)
    assert "‘Anna Doe’ is one of the cases that it learned from: its result says nothing about new cases." in said
    until(stand_ins, lambda: school.state.run is not None and school.state.run.ended)


# --- stopped ----------------------------------------------------------------------------------------------------------


OTHER_PHASES = ("checking", "testing before", "embedding", "embedding variants", "testing fold 1", "training on all")


@pytest.mark.parametrize(
    "stage",
    [
        *("Waiting", "training fold 2"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in OTHER_PHASES),
    ],
)
def test_cancel_in_any_phase_keeps_what_was_found_and_continues_there(school, stand_ins, home, stage):
    from ProxyPromptSegmentLib.training.adapting.result import Verdict

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Verdict, "better", property(lambda self: True))
        ui = school.ui
        if stage == "embedding variants":  # they are stored where the image encoder stays as it is
            school.chosen.lesson.more["trained"] = "all"
        ui.teachStartButton.click()
        lesson = school.state.lesson
        if stage != "Waiting":
            lesson.observe(lambda one: one.what.startswith(stage) and not one.ended and one.cancel())
        else:
            ui.teachStartButton.click()
            assert text_of(ui.teachMessageLabel) == "Stopping after this step…" and not ui.teachStartButton.enabled
        until(stand_ins, lambda: lesson.ended)
        if lesson.state == "finished":  # it was done before the cancel was seen
            assert stage in ("testing fold 1", "training on all") and lesson.result.kept
            return
        assert lesson.state == "cancelled" and lesson.error == ""
        assert not [one for one in files(home) if "partial" in one or ".keeping" in one or "my-gland.saf" in one]
        said = text_of(ui.teachMessageLabel)
        assert said.startswith("Cancelled") and ui.applyButton.text == "Apply"
        begun = (home / "cache" / "adapting" / "my-gland" / "state.json").is_file()
        assert ui.teachStartButton.text == ("Continue" if begun else "Teach")
        assert begun or stage in ("Waiting", "checking", "embedding", "testing before")
        assert ("press Continue" in said) == ("is kept" in said) == begun  # no word of what is not there
        again = taught(school, stand_ins)
        assert again.state == "finished" and again.result.kept, again.error
        assert not (home / "cache" / "adapting" / "my-gland").exists()


def test_a_scene_closed_while_a_model_is_taught_leaves_nothing_half_written_and_no_names(school, stand_ins, home):
    import slicer

    school.ui.teachStartButton.click()
    lesson = school.state.lesson
    until(stand_ins, lambda: lesson.losses)
    slicer.mrmlScene.Clear(False)
    assert lesson.state == "cancelled" and school.state.lesson is None
    said = text_of(school.ui.teachMessageLabel)
    assert said.startswith("The scene was closed, so this was stopped.") and "is kept" in said and "Doe" not in said
    assert school.ui.teachScoresTable.real.isHidden() and school.ui.teachPictureLabel.real.isHidden()
    until(stand_ins, lambda: not school.host.logic.worker.busy)
    state = home / "cache" / "adapting" / "my-gland"
    assert json.loads((state / "state.json").read_text(encoding="utf-8"))["before"]
    assert not [one for one in files(home) if "partial" in one or "keeping" in one or "Doe" in one]
    assert "Doe" not in (state / "state.json").read_text(encoding="utf-8")
    add_taught_case(0, "first")
    add_taught_case(1, "second")
    school.refresh()
    school.state.parameters.teachModel, school.state.parameters.device = "small", "cpu"
    assert school.ui.teachStartButton.text == "Continue"
    assert taught(school, stand_ins).state == "finished"


def test_closing_the_module_while_a_model_is_taught_ends_the_thread(school, stand_ins, home):
    school.ui.teachStartButton.click()
    lesson = school.state.lesson
    until(stand_ins, lambda: lesson.losses)
    assert school.host.logic.shutdown(60)
    assert lesson.state == "cancelled" and (home / "cache" / "adapting" / "my-gland" / "state.json").is_file()


@pytest.mark.slow
def test_other_cases_under_the_same_name_are_refused_until_it_begins_again(school, stand_ins):
    import slicer

    school.ui.teachStartButton.click()
    lesson = school.state.lesson
    lesson.observe(lambda one: bool(one.losses) and not one.ended and one.cancel())
    until(stand_ins, lambda: lesson.ended)
    add_taught_case(3, "third")
    school.refresh()
    lesson = taught(school, stand_ins)
    assert lesson.state == "failed" and "begun with other cases" in lesson.error
    assert (
        "tick “Begin again”" in text_of(school.ui.teachMessageLabel) and school.ui.teachStartButton.text == "Continue"
    )
    school.ui.teachRestartBox.checked = True
    lesson = taught(school, stand_ins)
    assert lesson.state == "finished" and len(lesson.result.scores) == 3
    assert slicer.util.getNode("third") is not None


# --- what goes wrong outside ------------------------------------------------------------------------------------------


def test_a_damaged_list_of_models_is_found_before_training(school, stand_ins, home):
    school.refresh()
    (home / "own.json").write_text("{", encoding="utf-8")
    school.state.parameters.teachModel = ""  # that of the program: the small one is in the damaged list
    school.chosen.lesson.more.pop("model")
    lesson = taught(school, stand_ins)
    assert lesson.state == "failed" and "own.json is damaged" in text_of(school.ui.teachMessageLabel)
    assert lesson.progress is None and (home / "own.json").read_text(encoding="utf-8") == "{"


def test_a_disk_that_fills_up_while_it_trains_is_said_and_what_was_stored_is_kept(school, stand_ins, home, monkeypatch):
    from ProxyPromptSegmentLib.imaging import output_files
    from ProxyPromptSegmentLib.training.adapting.result import Verdict

    monkeypatch.setattr(Verdict, "better", property(lambda self: True))
    replacing, full = output_files.os.replace, []

    def replace(source, target):
        if full and str(target).endswith((".safetensors", "own.json", ".md")):
            raise OSError(28, "No space left on device")
        replacing(source, target)

    monkeypatch.setattr(output_files.os, "replace", replace)
    school.ui.teachStartButton.click()
    lesson = school.state.lesson
    lesson.observe(lambda one: one.what.startswith("training fold 2") and full.append(True))
    until(stand_ins, lambda: lesson.ended)
    said = text_of(school.ui.teachMessageLabel)
    assert lesson.state == "failed" and "No space left on device" in said and "press Continue" in said
    assert not [one for one in files(home) if "partial-" in one or "keeping" in one or "my-gland.saf" in one]
    full.clear()
    assert school.ui.teachStartButton.text == "Continue"
    lesson.observe(lambda one: full.clear())
    again = taught(school, stand_ins)
    assert again.state == "finished" and again.result.kept
