"""A folder of studies in the one list of cases: listed, segmented, read when clicked; only widgets are stand-ins."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")


from adapt_cases import picture
from lesson_cases import add_taught_case, until
from mrml_scene import segment_array
from ProxyPromptSegmentLib.imaging.volumes import write_volume
from study_cases import below, click, finish, real_logic, rows
from widget_cases import add_views, text_of


@pytest.fixture
def ward(home, make_panel, stand_ins):
    """A panel with a support, which has opened a folder of three studies of which one is no image."""
    add_taught_case(0, "support")
    add_views()
    place = home / "archive"
    place.mkdir()
    for seed, name in ((1, "one"), (3, "three")):
        write_volume(place / f"{name}.nrrd", picture(seed)[0])
    (place / "damaged.nrrd").write_bytes(b"no image")
    (place / "one.seg.nrrd").write_bytes(b"an annotation")
    panel = make_panel(real_logic())
    panel.ui.addSupportButton.click()
    parameters = panel.state.parameters
    parameters.model, parameters.device, parameters.threshold = "small", "cpu", 0.0
    panel.place, panel.results = place, home / "archive results"
    stand_ins.Dialogs.path = str(place)
    panel.ui.folderButton.click()
    until(stand_ins, lambda: rows(panel), "the list of studies")
    return panel


def segmented(panel, stand_ins):
    """Presses the button and waits for the end."""
    panel.ui.segmentCasesButton.click()
    assert panel.state.studies is not None, text_of(panel.ui.casesMessageLabel)
    return finish(panel, stand_ins)


def show(panel, stand_ins, name):
    """Clicks a study, and waits until it is the target."""
    click(panel, next(n for n, row in enumerate(rows(panel)) if row.startswith(name)))
    target = lambda: panel.state.parameters.targetVolume  # noqa: E731
    until(stand_ins, lambda: target() is not None and target().GetName().startswith(name), f"{name} on screen")
    until(stand_ins, lambda: panel.state.folder.wanted is None, "what else there is to do")
    return target()


def volumes():
    import slicer

    nodes = slicer.mrmlScene.GetNodesByClass("vtkMRMLScalarVolumeNode")
    return sorted(nodes.GetItemAsObject(n).GetName() for n in range(nodes.GetNumberOfItems()))


def test_the_studies_of_a_folder_are_segmented_into_a_folder_of_results_and_none_is_loaded(ward, stand_ins):
    ui = ward.ui
    assert rows(ward) == ["damaged.nrrd: new", "one.nrrd: new", "three.nrrd: new"]
    assert text_of(ui.folderLabel) == (
        "3 studies of “archive”; results in “archive results”.\n1 file looks like an annotation and is not a study."
    )
    assert ui.segmentCasesButton.text == "Segment 3 studies"
    studies = segmented(ward, stand_ins)
    assert studies.state == "finished", studies.error
    assert ui.segmentCasesButton.text == "Segment 1 of 3 studies", "what failed is tried again"
    assert rows(ward)[0] == "damaged.nrrd: failed" and "damaged.nrrd" in below(ward, 0)
    assert sorted(rows(ward)[1:]) == ["one.nrrd: segmented", "three.nrrd: segmented"]
    assert below(ward, 1).startswith("gland ") and " ml, confidence 0." in below(ward, 1)
    assert "Finished: 2 segmented, 1 failed." in text_of(ui.casesMessageLabel)
    assert f"Results, table and page are in {ward.results}." in text_of(ui.casesMessageLabel)
    assert volumes() == ["support"], "the studies are not in the scene"
    assert (ward.results / "index.html").is_file() and len(list((ward.results / "records").iterdir())) == 2
    again = segmented(ward, stand_ins)
    assert again.count("before") == 2 and again.count("failed") == 1
    assert "2 done before with the same inputs" in text_of(ui.casesMessageLabel)
    (ward.place / "three.nrrd").unlink()
    click(ward, rows(ward).index("three.nrrd: segmented"))
    until(stand_ins, lambda: "three.nrrd is not there any more" in text_of(ui.casesMessageLabel), "that it is gone")
    assert "one.nrrd" not in text_of(ui.casesMessageLabel), "another patient's study"
    segmented(ward, stand_ins)
    assert rows(ward) == ["damaged.nrrd: failed", "one.nrrd: segmented"], "a study that is gone is listed"


def test_a_click_reads_one_study_with_its_result_and_the_one_before_leaves_the_scene(ward, stand_ins, monkeypatch):
    import slicer

    segmented(ward, stand_ins)
    node = show(ward, stand_ins, "one.nrrd")
    assert volumes() == ["one.nrrd", "support"] and not node.GetStorageNode()
    result = ward.state.segmentation
    record = next(json.loads(path.read_text()) for path in (ward.results / "records").iterdir())
    assert result is not None and ward.ui.resultsTable.rowCount == 1 and not result.GetStorageNode()
    found = segment_array(result, result.GetSegmentation().GetNthSegmentID(0), node)
    assert found.any() and found.sum() in [one["voxels"] for one in record["objects"]] + [found.sum()]
    strip = ward.ui.confidenceStrip.real
    tips = [strip.item(0, column).toolTip() for column in range(strip.columnCount())]
    assert len(tips) == 5 and all("confidence 0." in tip for tip in tips), tips
    assert "one.nrrd: segmented" in rows(ward) and ward.ui.casesList.currentRow == rows(ward).index(
        "one.nrrd: segmented"
    )
    shown, most, logic = [], [], ward.host.logic
    monkeypatch.setattr(ward, "_refresh", lambda section: (shown.append(section), section.refresh()))
    monkeypatch.setattr(logic.pump, "_work", lambda: (shown.clear(), logic._work(), most.append(len(shown)))[1])
    show(ward, stand_ins, "three.nrrd")
    monkeypatch.undo()
    assert 0 < max(most) <= 2 * len(list(ward.sections)), "the panel is shown again and again in one turn of the window"
    assert volumes() == ["support", "three.nrrd"] and slicer.mrmlScene.GetNodeByID(result.GetID()) is None
    click(ward, 0)
    until(stand_ins, lambda: "damaged.nrrd" in text_of(ward.ui.casesMessageLabel), "why it cannot be read")
    assert volumes() == ["support", "three.nrrd"]


def test_what_the_user_has_changed_stays_in_the_scene_and_the_folder_as_it_was(ward, stand_ins):
    import slicer

    segmented(ward, stand_ins)
    files = {path: path.read_bytes() for path in ward.results.rglob("*") if path.is_file()}
    node = show(ward, stand_ins, "one.nrrd")
    result = ward.state.segmentation
    segment_id = result.GetSegmentation().GetNthSegmentID(0)
    mask = segment_array(result, segment_id, node)
    mask[2] = 0
    mask[2, 3:7, 3:7] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, result, segment_id, node)
    ward.refresh()
    assert "one.nrrd: corrected, not saved" in rows(ward)
    show(ward, stand_ins, "three.nrrd")
    assert volumes() == ["one.nrrd", "support", "three.nrrd"]
    assert "stays in the scene, and is not in the folder of results: one.nrrd." in text_of(ward.ui.casesMessageLabel)
    assert show(ward, stand_ins, "one.nrrd") is node and ward.state.segmentation is result
    assert np.array_equal(segment_array(result, segment_id, node), mask)
    assert volumes() == ["one.nrrd", "support"], "it is not read again, and the untouched one is gone"
    assert {path: path.read_bytes() for path in ward.results.rglob("*") if path.is_file()} == files


def test_corrections_are_saved_as_a_version_beside_the_result_and_are_read_again(ward, stand_ins):
    import slicer

    from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation

    (ward.place / "three.nrrd").rename(ward.place / "Müller & 50 %.nrrd")
    ward.ui.folderButton.click()
    assert not ward.ui.saveCorrectionsButton.real.isVisibleTo(ward.frame)
    ward.ui.folderButton.click()
    until(stand_ins, lambda: len(rows(ward)) == 3, "the list of studies")
    segmented(ward, stand_ins)
    before = {path: path.read_bytes() for name in ("results", "records") for path in (ward.results / name).iterdir()}
    assert not ward.ui.saveCorrectionsButton.enabled
    node = show(ward, stand_ins, "Müller")
    assert "has this result as it is" in ward.ui.saveCorrectionsButton.toolTip
    result = ward.state.segmentation
    segment_id = result.GetSegmentation().GetNthSegmentID(0)
    mask = segment_array(result, segment_id, node)
    mask[2] = 0
    mask[2, 3:7, 3:8] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, result, segment_id, node)
    ward.refresh()
    assert ward.ui.saveCorrectionsButton.enabled, ward.ui.saveCorrectionsButton.toolTip
    ward.ui.saveCorrectionsButton.click()
    assert not ward.ui.saveCorrectionsButton.enabled, "it is not pressed twice"
    until(stand_ins, lambda: "are in" in text_of(ward.ui.casesMessageLabel), "the end of saving")
    (file,) = (ward.results / "corrected").glob("*.seg.nrrd")
    assert str(file) in text_of(ward.ui.casesMessageLabel) and file.name.startswith("Müller_50")
    assert np.array_equal(read_segmentation(file).segments[0].mask, mask)
    assert {path: path.read_bytes() for path in before} == before, "never over the program's result"
    assert not ward.ui.saveCorrectionsButton.enabled and "Müller & 50 %.nrrd: corrected" in rows(ward)
    assert "1 corrected by hand" in (ward.results / "index.html").read_text(encoding="utf-8")
    show(ward, stand_ins, "one.nrrd")
    assert volumes() == ["one.nrrd", "support"], "what is in the folder leaves the scene"
    assert "Müller & 50 %.nrrd: corrected" in rows(ward)
    again = show(ward, stand_ins, "Müller")
    inside = ward.state.segmentation.GetSegmentation()
    assert np.array_equal(segment_array(ward.state.segmentation, inside.GetNthSegmentID(0), again), mask)
    assert ward.ui.confidenceStrip.real.item(0, 2).toolTip() == "Slice 2: changed by hand"
    assert "Müller & 50 %.nrrd: corrected" in rows(ward) and not ward.ui.saveCorrectionsButton.enabled
    studies = segmented(ward, stand_ins)
    assert studies.count("before") == 2 and len(list((ward.results / "corrected").iterdir())) == 2
    (ward.results / "cohort.json").unlink()
    mask[1] = 0
    inside = ward.state.segmentation.GetSegmentation()
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, ward.state.segmentation, inside.GetNthSegmentID(0), again)
    ward.refresh()
    ward.ui.saveCorrectionsButton.click()
    until(stand_ins, lambda: "no result of" in text_of(ward.ui.casesMessageLabel), "that the folder is gone")
    assert ward.ui.saveCorrectionsButton.enabled and len(list((ward.results / "corrected").iterdir())) == 2


@pytest.mark.slow
def test_a_study_that_was_read_before_it_was_segmented_is_read_again_afterwards(ward, stand_ins):
    node = show(ward, stand_ins, "one.nrrd")
    assert ward.state.segmentation is None
    segmented(ward, stand_ins)
    again = show(ward, stand_ins, "one.nrrd")
    until(stand_ins, lambda: ward.state.segmentation is not None, "its result")
    assert ward.state.parameters.targetVolume is not node or again is node
    assert volumes() == ["one.nrrd", "support"]


@pytest.mark.slow
def test_the_folder_is_closed_and_opened_again_with_what_was_done_and_follows_the_scene(ward, stand_ins):
    import slicer

    segmented(ward, stand_ins)
    ward.ui.folderButton.click()
    assert rows(ward) == [] and ward.ui.folderButton.text == "Folder of studies…"
    ward.ui.folderButton.click()
    until(stand_ins, lambda: rows(ward), "the list of studies")
    assert rows(ward)[0] == "damaged.nrrd: failed" and "one.nrrd: segmented" in rows(ward)
    assert "The page index.html there shows all of them." in text_of(ward.ui.folderLabel)
    ward.ui.segmentCasesButton.click()
    slicer.mrmlScene.Clear(False)
    until(stand_ins, lambda: not ward.host.logic.worker.busy)
    assert ward.state.folder is None and rows(ward) == [] and ward.ui.folderButton.enabled
    assert not list((ward.results / "claims").iterdir())


def test_a_folder_without_studies_says_so_and_stays_closed(ward, stand_ins):
    ward.ui.folderButton.click()
    stand_ins.Dialogs.path = str(ward.place.parent / "none")
    ward.ui.folderButton.click()
    until(stand_ins, lambda: ward.state.folder is None, "the answer")
    assert "does not exist" in text_of(ward.ui.casesMessageLabel)
