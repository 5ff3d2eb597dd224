"""A study of a folder that is put into the scene while the user does something else: nothing of it is left behind."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from lesson_cases import until
from mrml_scene import segment_array
from saved_cases import corrected, draw, open_ward, save, show, write_study
from study_cases import click, rows
from widget_cases import text_of


@pytest.fixture
def ward(tmp_path, make_panel, stand_ins):
    """A panel over a folder of two studies with results, whose work in pieces waits until it is let go."""
    panel = open_ward(tmp_path, make_panel, stand_ins)
    logic, panel.waiting = panel.host.logic, []
    panel.in_pieces, logic.in_pieces = logic.in_pieces, panel.waiting.append
    return panel


def begin(ward, stand_ins, name, pieces):
    """Clicks a study and does the first pieces of putting it into the scene; returns the rest."""
    before = len(ward.waiting)
    click(ward, next(n for n, row in enumerate(rows(ward)) if row.startswith(name)))
    until(stand_ins, lambda: len(ward.waiting) > before, "the study is read")
    work = ward.waiting[-1]
    for _ in range(pieces):
        next(work)
    return work


def nodes():
    """The images and results in the scene, and their displays."""
    import slicer

    found = []
    for kind in ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLVolumeDisplayNode"):
        every = slicer.mrmlScene.GetNodesByClass(kind)
        found += [every.GetItemAsObject(n).GetName() or kind for n in range(every.GetNumberOfItems())]
    return sorted(found)


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_folder_that_is_closed_while_a_study_is_put_into_the_scene_leaves_nothing_there(ward, stand_ins, pieces):
    work = begin(ward, stand_ins, "one", pieces)
    ward.ui.folderButton.click()
    for _piece in work:
        pass
    assert nodes() == []


def test_a_study_that_cannot_be_put_into_the_scene_is_taken_out_again_and_said_so(ward, stand_ins, monkeypatch):
    from ProxyPromptSegmentLib.errors import InputError
    from ProxyPromptSegmentModule.scene import loaded_study

    work = begin(ward, stand_ins, "one", 3)

    def fail(*_):
        raise InputError("no more segments fit")

    monkeypatch.setattr(loaded_study, "make_segment", fail)
    for _piece in work:
        pass
    assert "No more segments fit" in text_of(ward.ui.casesMessageLabel)
    assert nodes() == []


def test_work_that_is_ended_in_the_middle_leaves_no_half_of_a_study(ward, stand_ins):
    work = begin(ward, stand_ins, "one", 3)
    work.close()
    assert nodes() == []


def test_a_study_that_is_clicked_twice_is_in_the_scene_once(ward, stand_ins):
    first = begin(ward, stand_ins, "one", 2)
    second = begin(ward, stand_ins, "one", 2)
    for work in (first, second):
        for _piece in work:
            pass
    assert [name for name in nodes() if name.startswith("one")] == ["one.nrrd", "one.nrrd segmentation"]
    ward.host.logic.in_pieces = ward.in_pieces
    node, result = show(ward, stand_ins, "one")
    draw(ward, node, result, 0, ward.mask[::-1].copy())
    assert ward.ui.saveCorrectionsButton.enabled, "what is shown is what belongs to the folder"


def test_the_result_of_a_study_is_not_shown_on_an_image_that_replaced_it(ward, stand_ins):
    write_study(ward.place / "one.nrrd", 77)
    click(ward, 0)
    until(stand_ins, lambda: "changed since" in text_of(ward.ui.casesMessageLabel), "why it is not shown")
    assert nodes() == [] and not ward.waiting


def test_a_correction_is_shown_although_the_result_that_was_corrected_is_gone(ward, stand_ins):
    ward.host.logic.in_pieces = ward.in_pieces
    node, result = show(ward, stand_ins, "one")
    draw(ward, node, result, 0, corrected(ward.mask))
    save(ward, stand_ins)
    show(ward, stand_ins, "two")
    for path in (ward.results / "results").glob("one*"):
        path.unlink()
    node, result = show(ward, stand_ins, "one")
    found = segment_array(result, result.GetSegmentation().GetNthSegmentID(0), node)
    assert np.array_equal(found, corrected(ward.mask))
    assert "one.nrrd: corrected" in rows(ward)


def test_the_voxels_of_a_study_that_has_left_the_scene_leave_the_memory(ward, stand_ins):
    ward.host.logic.in_pieces, gone = ward.in_pieces, []
    node, result = show(ward, stand_ins, "one")
    node.GetImageData().AddObserver("DeleteEvent", lambda *_: gone.append("image"))
    result.GetSegmentation().AddObserver("DeleteEvent", lambda *_: gone.append("result"))
    del node, result
    show(ward, stand_ins, "two")
    gc.collect()
    assert sorted(set(gone)) == ["image", "result"]
