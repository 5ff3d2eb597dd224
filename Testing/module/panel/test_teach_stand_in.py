"""The section Teach with the real logic, worker thread and a small model; only Slicer's widgets are stand-ins."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from lesson_cases import add_taught_case, files, lines, taught, until
from widget_cases import as_result, text_of

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
    assert text_of(panel.ui.teachEstimateLabel).startswith("All ticked cases are of one patient, about 15 min: nothing")
    panel.state.parameters.teachStructure = "gland"
    panel.chosen.lesson.tick([])
    panel.refresh()
    assert "Tick at least one case with “gland”" in text_of(panel.ui.teachReasonLabel)
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


def test_two_images_of_one_patient_are_learned_from_without_a_test_only_if_the_user_agrees(
    make_school, stand_ins, home
):
    import slicer

    nodes = [add_taught_case(seed, name)[0] for seed, name in ((0, "t2"), (1, "adc"))]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Doe")
    study = hierarchy.CreateStudyItem(patient, "MR")
    for node in nodes:
        hierarchy.CreateItem(study, node)
    panel = make_school()
    assert "of one patient, about 15 min: nothing can be tested" in text_of(panel.ui.teachEstimateLabel)
    before = files(home)
    lesson = taught(panel, stand_ins)
    said = text_of(panel.ui.teachMessageLabel)
    assert lesson.asks and lesson.progress is None and lesson.patients == 1 and files(home) == before
    assert "All of it is of one patient, so that nothing can be tested" in said and "Nothing was trained yet" in said
    assert panel.ui.teachStartButton.text == "Teach anyway"
    lesson = taught(panel, stand_ins)
    assert lesson.result is not None and lesson.result.kept and lesson.result.verdict is None, lesson.error
    assert "is kept; it could not be tested" in text_of(panel.ui.teachMessageLabel)


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
    assert "“Anna again”: it has the same image as Anna Doe: one patient, two names." in said
    assert "“nothing”: the mask of 'gland' is empty" in said
    assert "2 cases of 2 patients can be learned from. Nothing was trained yet" in said
    assert files(home) == before and school.ui.teachStartButton.text == "Teach anyway"
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
    assert lines(panel)["Case L: library"] is False
    assert text_of(panel.ui.teachEstimateLabel).startswith("All ticked cases are of one patient")
    listed = panel.ui.teachCasesList
    listed.item(1).setCheckState(stand_ins.QtCore.Qt.CheckState.Checked)
    assert lines(panel)["Case L: library"] and panel.ui.teachStartButton.enabled
    panel.ui.teachCheckButton.click()
    lesson = panel.state.lesson
    until(stand_ins, lambda: lesson.ended)
    assert lesson.usable == ("one", "Case L") and lesson.patients == 2, lesson.error


def test_a_case_of_the_library_and_an_image_of_the_scene_may_be_of_one_patient(make_school, stand_ins):
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)

    def of_patient(number, volume):
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "x")
        hierarchy.SetItemAttribute(patient, "DICOM.PatientID", number)
        hierarchy.CreateItem(hierarchy.CreateStudyItem(patient, "MR"), volume)

    panel = make_school()
    table = panel.state.table
    for seed, number in ((1, "patient 4711"), (2, "patient 4712")):
        volume, node = add_taught_case(seed, "earlier")
        of_patient(number, volume)
        row = table.add_nodes(volume, node)
        entry = table.save_to_library(row.key, title=f"Case {seed}")
        assert len(entry.patient) == 24 and number not in (entry.folder / "case.json").read_text().replace(
            entry.title, ""
        )
        table.remove(row.key)
        for gone in (node, volume):
            slicer.mrmlScene.RemoveNode(gone)
    of_patient("patient 4711", add_taught_case(0, "later")[0])
    panel.chosen.lesson.look_again()
    rows = panel.chosen.lesson.rows()
    assert [row.case.title for row in rows] == ["later", "Case 1", "Case 2"]
    patients = [row.case.patient for row in rows]
    assert patients[0] == patients[1] != patients[2] and all(patients)
    panel.chosen.lesson.tick([row.key for row in rows])
    panel.ui.teachCheckButton.click()
    lesson = panel.state.lesson
    until(stand_ins, lambda: lesson.ended)
    assert len(lesson.usable) == 3 and lesson.patients == 2, lesson.error


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
    assert lesson.asks and lesson.progress is None and len(lesson.usable) == 1
    assert ("Anna Doe", "it was removed from the scene") in lesson.said


def test_what_was_replaced_in_an_image_is_said(school, stand_ins):
    import slicer
    import slicer.util

    node = slicer.util.getNode("Anna Doe")
    slicer.util.arrayFromVolume(node)[0, 0, 0] = float("nan")
    school.ui.teachCheckButton.click()
    lesson = school.state.lesson
    until(stand_ins, lambda: lesson.ended)
    assert "'Anna Doe' has NaN or infinite intensity in 1 voxels outside" in text_of(school.ui.teachMessageLabel)
