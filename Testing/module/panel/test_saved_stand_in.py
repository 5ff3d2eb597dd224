"""Corrections of a study of a folder: what is on screen is what is kept, on the study's grid; no network runs."""

from __future__ import annotations

import itertools
import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from lesson_cases import until
from mrml_scene import segment_array
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from saved_cases import GRID, NAMES, corrected, draw, open_ward, save, show
from widget_cases import text_of


@pytest.fixture
def ward(tmp_path, make_panel, stand_ins):
    """A panel over a folder of two studies with results."""
    return open_ward(tmp_path, make_panel, stand_ins)


def test_corrections_of_a_study_that_was_moved_in_the_scene_lie_where_the_study_does(ward, stand_ins):
    import slicer
    import vtk

    node, result = show(ward, stand_ins, "one")
    draw(ward, node, result, 0, corrected(ward.mask))
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(2, 3, 3.0)  # by a slice
    moved.SetMatrixTransformToParent(matrix)
    for one in (node, result):
        one.SetAndObserveTransformNodeID(moved.GetID())
    ward.refresh()
    kept = save(ward, stand_ins)
    assert kept.geometry == GRID
    assert np.array_equal(kept.segments[0].mask, corrected(ward.mask))
    record = json.loads(next((ward.results / "corrected").glob("*.json")).read_text())
    assert record["corrected"]["slices"] == {"gland": [2]}


def test_what_is_drawn_while_corrections_are_copied_is_not_taken_for_saved(ward, stand_ins):
    import slicer

    node, result = show(ward, stand_ins, "one")
    draw(ward, node, result, 0, corrected(ward.mask))
    inside, drawn = result.GetSegmentation(), []
    second = inside.GetNthSegmentID(1)
    pieces, late = ward.host.logic.in_pieces, corrected(ward.mask)[::-1].copy()

    def between(work, **how):
        """Draws again when nothing is left to be copied but to put the segments together."""

        def one_after_another():
            for number, _piece in enumerate(work):
                if number == len(NAMES) and not drawn:
                    drawn.append(slicer.util.updateSegmentBinaryLabelmapFromArray(late, result, second, node))
                yield

        pieces(one_after_another(), **how)

    ward.host.logic.in_pieces = between
    kept = save(ward, stand_ins)
    ward.host.logic.in_pieces = pieces
    assert drawn
    ward.refresh()
    assert np.array_equal(kept.segments[0].mask, corrected(ward.mask))
    assert np.array_equal(kept.segments[1].mask, ward.mask)
    assert ward.ui.saveCorrectionsButton.enabled, "it can be saved"
    show(ward, stand_ins, "two")
    assert slicer.mrmlScene.GetNodeByID(result.GetID()) is result, "and is not thrown away"


def test_a_new_name_is_a_correction(ward, stand_ins):
    _node, result = show(ward, stand_ins, "one")
    result.GetSegmentation().GetNthSegment(0).SetName("tumour")
    ward.refresh()
    kept = save(ward, stand_ins)
    assert kept.names == ["tumour", "cyst"]
    assert not ward.ui.saveCorrectionsButton.enabled


def test_a_correction_is_not_kept_as_that_of_an_image_that_replaced_the_study(ward, stand_ins):
    node, result = show(ward, stand_ins, "one")
    draw(ward, node, result, 0, corrected(ward.mask))
    folder, path = ward.state.folder, ward.place / "one.nrrd"
    facts = {**folder.rows[path].facts, "key": "2", "input_sha256": "2"}  # it was replaced, and segmented again
    folder.rows[path] = replace(folder.rows[path], facts=facts)
    ward.refresh()
    button = ward.ui.saveCorrectionsButton
    assert not button.enabled and "changed since it was read" in button.toolTip


@pytest.mark.parametrize("end", ["scene", "module"])
@pytest.mark.parametrize("pieces", [0, 1, None])
def test_corrections_are_written_although_the_scene_or_the_module_is_closed(ward, stand_ins, pieces, end):
    """After as many pieces of the copy, or all, while a study is read."""
    import slicer

    node, result = show(ward, stand_ins, "one")
    draw(ward, node, result, 0, corrected(ward.mask))
    logic, reading, begun = ward.host.logic, threading.Event(), []
    logic.files.put(lambda _engine, _context: reading.wait(20), "a large study", "read", lambda *_: None)
    do_in_pieces, logic.in_pieces = logic.in_pieces, lambda work, **how: begun.append((work, how))
    try:
        ward.ui.saveCorrectionsButton.click()
        ((work, how),) = begun
        for _piece in itertools.islice(work, pieces):
            pass
        do_in_pieces(work, **how)
        if end == "scene":
            slicer.mrmlScene.Clear(False)
            until(stand_ins, lambda: not logic.saves.busy, "the end of saving")
        else:
            reading.set()
            ward.cleanup()
    finally:
        reading.set()
    (file,) = (ward.results / "corrected").glob("*.seg.nrrd")
    assert np.array_equal(read_segmentation(file).segments[0].mask, corrected(ward.mask))
    if end == "scene":
        assert f"corrections of one.nrrd are in {file}" in text_of(ward.ui.casesMessageLabel)


def test_corrections_that_cannot_be_written_after_the_scene_was_closed_are_said_so(ward, stand_ins):
    import slicer

    node, result = show(ward, stand_ins, "one")
    draw(ward, node, result, 0, corrected(ward.mask))
    ward.results.rename(ward.results.with_name("moved"))
    ward.ui.saveCorrectionsButton.click()
    slicer.mrmlScene.Clear(False)
    until(stand_ins, lambda: not ward.host.logic.saves.busy, "the end of saving")
    told = text_of(ward.ui.casesMessageLabel)
    assert "corrections of one.nrrd were not saved" in told and str(ward.results) in told


def test_a_correction_that_is_saved_while_studies_are_segmented_stays_in_the_list(ward, stand_ins):
    node, result = show(ward, stand_ins, "one")
    earlier = dict(ward.state.folder.rows)  # as whoever segments the others has read them
    draw(ward, node, result, 0, corrected(ward.mask))
    save(ward, stand_ins)
    kept = ward.state.folder.rows[ward.place / "one.nrrd"]
    ward.state.folder.follow(earlier)
    assert ward.state.folder.rows[ward.place / "one.nrrd"] == kept
    ward.state.folder.follow({})
    assert len(ward.state.folder.rows) == len(NAMES)
    show(ward, stand_ins, "two")
    node, result = show(ward, stand_ins, "one")
    found = segment_array(result, result.GetSegmentation().GetNthSegmentID(0), node)
    assert np.array_equal(found, corrected(ward.mask)), "and is what is shown and corrected next"
