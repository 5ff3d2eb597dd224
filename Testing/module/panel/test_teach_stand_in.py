"""The section Teach with the real logic, worker thread and a small model; only Slicer's widgets are stand-ins."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from adapt_cases import register_small_model
from lesson_cases import TINY, add_taught_case, until
from widget_cases import RecordedLogic, add_views, as_result, text_of


@pytest.fixture
def home(stand_ins, tmp_path, monkeypatch):
    """A user's folder with a small model."""
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PROXYPROMPT_REGISTRY", str(tmp_path / "own.json"))
    register_small_model(tmp_path)
    return tmp_path


@pytest.fixture
def make_school(home, make_panel):
    """Makes panels on the real logic, in which a lesson takes seconds; the section is open."""
    import slicer

    def make():
        from ProxyPromptSegmentModule.logic import SegmentationLogic

        class Logic(SegmentationLogic):
            scene = slicer.mrmlScene
            getParameterNode = RecordedLogic.getParameterNode  # noqa: N815

        made = make_panel(Logic())
        made.state.parameters.teachModel = "small"
        made.state.parameters.device = "cpu"
        made.chosen.lesson.more = dict(TINY)
        made.ui.teachButton.collapsed = False
        return made

    return make


@pytest.fixture
def school(make_school):
    """A panel with two annotated patients and a new one, which is the target."""
    add_taught_case(0, "Anna Doe")
    add_taught_case(1, "Bernd Doe")
    target, annotation = add_taught_case(7, "new")
    import slicer

    slicer.mrmlScene.RemoveNode(annotation)
    add_views()
    made = make_school()
    made.new_case = target
    made.ui.targetSelector.setCurrentNode(target)
    return made


def lines(panel):
    """The texts of the list of cases with their ticks."""
    from PySide6.QtCore import Qt

    listed = panel.ui.teachCasesList
    items = [listed.item(number) for number in range(listed.count)]
    return {item.text(): item.checkState() == Qt.CheckState.Checked for item in items}


def taught(panel, stand_ins):
    """Presses Teach and waits for the end."""
    panel.ui.teachStartButton.click()
    lesson = panel.state.lesson
    assert lesson is not None, text_of(panel.ui.teachMessageLabel)
    until(stand_ins, lambda: lesson.ended, "the end of the lesson")
    return lesson


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- the cases --------------------------------------------------------------------------------------------------------


def test_the_cases_of_the_scene_are_listed_and_those_that_cannot_be_used_say_why(make_school):
    import slicer

    add_taught_case(0, "one")
    add_taught_case(1, "two")
    add_taught_case(2, "other", objects=("stone",))
    volume, node = add_taught_case(3, "made")
    as_result(volume, node)
    lost, orphan = add_taught_case(4, "lost", segmentation_name="zzz")
    slicer.mrmlScene.RemoveNode(lost)
    panel = make_school()
    assert panel.ui.teachStructureCombo.currentText == "gland (in 3 cases)"
    found = lines(panel)
    assert found["one"] and found["two"] and not found["made: result of a model; tick it if you have corrected it"]
    assert found["other: has no “gland”"] is False
    assert [text for text in found if text.startswith("zzz: it is not clear on which image")]
    panel.ui.teachStructureCombo.currentIndex = 1
    assert panel.chosen.lesson.structure() == "stone" and lines(panel)["other"]
    assert "Tick at least two cases with “stone”" in text_of(panel.ui.teachReasonLabel)
    assert not panel.ui.teachStartButton.enabled and orphan is not None


def test_two_patients_with_one_name_stay_two(make_school, stand_ins):
    add_taught_case(0, "Smith")
    add_taught_case(1, "Smith")
    panel = make_school()
    assert [row.title for row in panel.chosen.lesson.rows()] == ["Smith (1)", "Smith (2)"]
    assert text_of(panel.ui.teachEstimateLabel).startswith("2 cases of 2 patients, about 15 min in all: 2 trainings")
    panel.ui.teachCheckButton.click()
    lesson = panel.state.lesson
    until(stand_ins, lambda: lesson.ended)
    assert lesson.usable == ("Smith (1)", "Smith (2)") and lesson.patients == 2
    assert text_of(panel.ui.teachMessageLabel) == "2 cases of 2 patients can be learned from."
    assert lesson.result is None


def test_two_images_of_one_patient_are_one_patient(make_school, stand_ins):
    import slicer

    nodes = [add_taught_case(seed, name)[0] for seed, name in ((0, "t2"), (1, "adc"))]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Doe")
    study = hierarchy.CreateStudyItem(patient, "MR")
    for node in nodes:
        hierarchy.CreateItem(study, node)
    panel = make_school()
    assert text_of(panel.ui.teachEstimateLabel) == "All ticked cases are of one patient."
    lesson = taught(panel, stand_ins)
    assert lesson.state == "failed" and "1 patient is left" in lesson.error and lesson.progress is None


def test_what_cannot_be_used_is_said_by_name_before_training_and_agreed_to(school, stand_ins, home):
    import slicer

    twin = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, slicer.util.getNode("Anna Doe"), "Anna again")
    from mrml_scene import add_segmentation, segment_array

    first = slicer.util.getNode("Anna Doe annotation")
    mask = segment_array(first, first.GetSegmentation().GetNthSegmentID(0), twin)
    add_segmentation(twin, {"gland": mask}, "Anna again annotation")
    add_taught_case(5, "nothing", empty=True)
    school.refresh()
    before = files(home)
    lesson = taught(school, stand_ins)
    said = text_of(school.ui.teachMessageLabel)
    assert lesson.state == "finished" and lesson.asks and lesson.progress is None
    assert "Anna again: it has the same image as Anna Doe: one patient, two names." in said
    assert "Nothing: the mask of 'gland' is empty" in said
    assert "2 cases of 2 patients can be learned from. Nothing was trained yet" in said
    assert files(home) == before and school.ui.teachStartButton.text == "Teach all the same"
    lesson = taught(school, stand_ins)
    assert lesson.result is not None and len(lesson.result.scores) == 2


def test_a_case_of_the_library_is_learned_from_if_it_is_ticked(make_school, stand_ins):
    import slicer

    add_taught_case(0, "one")
    volume, node = add_taught_case(1, "two")
    panel = make_school()
    table = panel.state.table
    row = table.add_nodes(volume, node)
    table.save_to_library(row.key, title="Case L")
    table.remove(row.key)
    for gone in (node, volume):
        slicer.mrmlScene.RemoveNode(gone)
    panel.refresh()
    assert lines(panel)["Case L: library"] is False and not panel.ui.teachStartButton.enabled
    listed = panel.ui.teachCasesList
    listed.item(1).setCheckState(stand_ins.QtCore.Qt.CheckState.Checked)
    assert lines(panel)["Case L: library"] and panel.ui.teachStartButton.enabled
    panel.ui.teachCheckButton.click()
    lesson = panel.state.lesson
    until(stand_ins, lambda: lesson.ended)
    assert lesson.usable == ("one", "Case L") and lesson.patients == 2, lesson.error


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said", "free"),
    [("Prostata/Müller", "cannot be a model's name", "prostata-mueller"), ("small", "is the name of a", "small-2"),
     ("sam-compact", "never replaced", "sam-compact-2"), ("x.pth", "would be read as the name of a file", "")],
)  # fmt: skip
def test_a_name_that_cannot_be_is_refused_with_one_that_can(school, name, said, free):
    assert school.ui.teachNameEdit.placeholderText == "my-gland" and school.ui.teachStartButton.enabled
    school.ui.teachNameEdit.text = name
    school.ui.teachNameEdit.real.editingFinished.emit()
    reason = text_of(school.ui.teachReasonLabel)
    assert said in reason and f"“{free}" in reason and not school.ui.teachStartButton.enabled


@pytest.mark.parametrize(("name", "word"), [("gland-bernd", "bernd"), ("gland-doe", "doe"), ("gland-3t", "")])
def test_a_name_of_a_case_in_that_of_the_model_is_noticed(school, name, word):
    school.ui.teachNameEdit.text = name
    school.ui.teachNameEdit.real.editingFinished.emit()
    noticed = f"“{word}” is also in the name of a case." in text_of(school.ui.teachEstimateLabel)
    assert noticed == bool(word), text_of(school.ui.teachEstimateLabel)


@pytest.mark.parametrize(
    ("case", "name", "word"),
    [("Müller", "gland-mueller", "mueller"), ("Mu\u0308ller", "gland-mueller", "mueller"),
     ("Pat 0048213", "gland-0048213", "0048213"), ("Łukasz^B", "lukasz", "lukasz"), ("MR 3", "gland-3", "")],
)  # fmt: skip
def test_a_patient_is_noticed_however_the_name_is_spelled(make_school, case, name, word):
    add_taught_case(0, case)
    add_taught_case(1, "other")
    panel = make_school()
    panel.ui.teachNameEdit.text = name
    panel.ui.teachNameEdit.real.editingFinished.emit()
    noticed = f"“{word}” is also in the name of a case." in text_of(panel.ui.teachEstimateLabel)
    assert noticed == bool(word), text_of(panel.ui.teachEstimateLabel)


@pytest.mark.parametrize("kind", ["image", "annotation"])
def test_a_case_that_is_removed_while_it_is_read_is_not_learned_from(school, stand_ins, monkeypatch, kind):
    import slicer

    from ProxyPromptSegmentModule.scene import volume_reader

    monkeypatch.setattr(volume_reader, "PIECE_BYTES", 1)  # a slice at a time
    step, begun = volume_reader.VolumeReading.step, []

    def stepping(reading):
        done = step(reading)
        if not begun:
            begun.append(reading)
            case = school.state.lesson.request.cases[0]
            slicer.mrmlScene.RemoveNode(case.volume if kind == "image" else case.segmentation)
        return done

    monkeypatch.setattr(volume_reader.VolumeReading, "step", stepping)
    school.ui.teachStartButton.click()
    lesson = school.state.lesson
    until(stand_ins, lambda: lesson.ended)
    assert lesson.progress is None and "Anna Doe (it was removed from the scene)" in lesson.error


def test_what_was_replaced_in_an_image_is_said(school, stand_ins):
    import slicer
    import slicer.util

    node = slicer.util.getNode("Anna Doe")
    slicer.util.arrayFromVolume(node)[0, 0, 0] = float("nan")
    school.ui.teachCheckButton.click()
    lesson = school.state.lesson
    until(stand_ins, lambda: lesson.ended)
    assert "'Anna Doe' has NaN or infinite intensity in 1 voxels outside" in text_of(school.ui.teachMessageLabel)


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
    assert lesson.result.kept and "Kept as “my-gland” all the same." in text_of(ui.teachMessageLabel)
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


@pytest.mark.parametrize(
    "stage",
    ["Waiting", "checking", "embedding", "testing before", "embedding variants", "training fold 2", "testing fold 1",
     "training on all"],
)  # fmt: skip
def test_cancel_in_any_phase_keeps_what_was_found_and_continues_there(school, stand_ins, home, stage):
    from ProxyPromptSegmentLib.training.adapting.result import Verdict

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Verdict, "better", property(lambda self: True))
        ui = school.ui
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
