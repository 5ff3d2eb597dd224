"""A panel over a folder of studies with results, for which no network runs, and what a user does there."""

from __future__ import annotations

import json

import numpy as np

from lesson_cases import until
from ProxyPromptSegmentLib.cohort.contents import Inputs
from ProxyPromptSegmentLib.cohort.folder import CohortFolder
from ProxyPromptSegmentLib.cohort.studies import list_studies
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, read_segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume
from study_cases import click, real_logic, rows
from widget_cases import add_views, text_of

GRID = VolumeGeometry.from_affine(np.diag([1.0, 2.0, 3.0, 1.0]), (8, 7, 6))
ABOUT = {"supports": [], "model": {"name": "m", "sha256": "0"}, "settings": {"classes": ["gland"]}}
NAMES = ("one", "two")


def write_study(path, seed):
    voxels = np.random.default_rng(seed).normal(size=GRID.shape_kji).astype(np.float32)
    write_volume(path, Volume(voxels, GRID, "x"))


def open_ward(tmp_path, make_panel, stand_ins):
    """Returns the panel over a folder of two studies with results."""
    place, output = tmp_path / "archive", tmp_path / "archive results"
    place.mkdir()
    for seed, name in enumerate(NAMES):
        write_study(place / f"{name}.nrrd", seed)
    folder = CohortFolder.begin(output, ABOUT)
    mask = np.zeros(GRID.shape_kji, np.uint8)
    mask[1:4, 2:5, 2:6] = 1
    for study in list_studies(place).studies:
        content = Inputs(folder.folder("inputs")).of(study.path)
        key = folder.key_of(content)
        files = folder.files_of(study, key)
        write_segmentation(files.result, Segmentation([Segment("gland", mask), Segment("cyst", mask)], GRID))
        files.report.write_text(json.dumps({"objects": [], "inputs": {"target": {"axis": "k"}}}))
        objects = [{"name": name, "voxels": 36} for name in ("gland", "cyst")]
        folder.publish(key, study, files, {"input_sha256": content, "objects": objects, "review": []})
    add_views()
    panel = make_panel(real_logic())
    panel.place, panel.results, panel.mask = place, output, mask
    stand_ins.Dialogs.path = str(place)
    panel.ui.folderButton.click()
    until(stand_ins, lambda: len(rows(panel)) == len(NAMES), "the list of studies")
    return panel


def show(panel, stand_ins, name):
    """Clicks a study, and waits until it is the target; returns it with its result."""
    click(panel, next(n for n, row in enumerate(rows(panel)) if row.startswith(name)))
    target = lambda: panel.state.parameters.targetVolume  # noqa: E731
    until(stand_ins, lambda: target() is not None and target().GetName().startswith(name), f"{name} on screen")
    until(stand_ins, lambda: panel.state.folder.wanted is None, "what else there is to do")
    return target(), panel.state.segmentation


def draw(panel, node, result, number, mask):
    """Draws a segment as the user does."""
    import slicer

    segment_id = result.GetSegmentation().GetNthSegmentID(number)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, result, segment_id, node)
    panel.refresh()


def save(panel, stand_ins):
    """Presses the button and waits for the end; returns what was written last."""
    assert panel.ui.saveCorrectionsButton.enabled, panel.ui.saveCorrectionsButton.toolTip
    panel.ui.saveCorrectionsButton.click()
    until(stand_ins, lambda: "are in" in text_of(panel.ui.casesMessageLabel), "the end of saving")
    return read_segmentation(max((panel.results / "corrected").glob("*.seg.nrrd")))


def corrected(mask):
    other = mask.copy()
    other[2] = 0
    other[2, 1, 1:3] = 1
    return other
