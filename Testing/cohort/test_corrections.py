"""Corrections by hand: a version beside the program's result, which counts from then on and is never computed again."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from ProxyPromptSegmentLib.cohort.contents import Inputs
from ProxyPromptSegmentLib.cohort.corrections import save_correction
from ProxyPromptSegmentLib.cohort.folder import CohortFolder
from ProxyPromptSegmentLib.cohort.process import Kind, Process
from ProxyPromptSegmentLib.cohort.rows import State
from ProxyPromptSegmentLib.cohort.studies import list_studies
from ProxyPromptSegmentLib.cohort.summary import state_of, write_summary
from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, read_segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume
from ProxyPromptSegmentLib.progress import CancelToken

GRID = VolumeGeometry.from_affine(np.diag([1.0, 2.0, 3.0, 1.0]), (8, 7, 6))
ABOUT = {"supports": [], "model": {"name": "m", "sha256": "0"}, "settings": {"classes": ["gland"]}}


class Ward:
    """A cohort of one study with a space, an umlaut, `&` and `%` in its name, which is done."""

    def __init__(self, folder):
        place = folder / "archive"
        place.mkdir()
        voxels = np.random.default_rng(3).normal(size=(6, 7, 8)).astype(np.float32)
        write_volume(place / "Müller & 50 %.nrrd", Volume(voxels, GRID, "x"))
        self.folder, (self.study,) = CohortFolder.begin(folder / "out", ABOUT), list_studies(place).studies
        self.key = self.folder.key_of(Inputs(self.folder.folder("inputs")).of(self.study.path))
        self.files = self.folder.files_of(self.study, self.key)
        self.mask = np.zeros((6, 7, 8), np.uint8)
        self.mask[1:4, 2:5, 2:6] = 1
        write_segmentation(self.files.result, Segmentation([Segment("gland", self.mask)], GRID))
        target = {"axis": "k", "spacing_mm": [1, 2, 3]}
        report = {
            "objects": [{"name": "gland", "confidence": [0.1, 0.9, 0.4, 0.8, 0.2, 0.2]}],
            "inputs": {"target": target},
        }
        self.files.report.write_text(json.dumps(report))
        review = [{"slice": n, "object": "gland", "confidence": 0.4, "why": "unsure"} for n in (2, 3)]
        objects = [{"name": "gland", "voxels": 36, "volume_ml": 0.216, "slices": 3, "mean_confidence": 0.7}]
        self.folder.publish(self.key, self.study, self.files, {"objects": objects, "review": review})

    def correct(self, mask, *more):
        segments = [Segment("gland", mask), *more]
        save_correction(self.folder, self.study, self.folder.record(self.key), Segmentation(segments, GRID))

    @property
    def row(self):
        return state_of(self.folder, self.study)

    @property
    def corrected(self):
        return sorted(path.name for path in (self.folder.path / "corrected").iterdir())


@pytest.fixture
def ward(tmp_path):
    return Ward(tmp_path)


def test_a_correction_is_a_version_beside_the_result_and_its_record_says_what_is_known_of_it(ward):
    before = {path: path.read_bytes() for path in ward.folder.path.rglob("*") if path.is_file()}
    mask = ward.mask.copy()
    mask[2] = 0
    mask[2, 1, 1:3] = 1
    ward.correct(mask, Segment("cyst", np.ones_like(mask)))
    assert {path: path.read_bytes() for path in before} == before, "what the program wrote stays"
    record = ward.folder.record(ward.key)
    gland, cyst = record["objects"]
    assert (gland["voxels"], gland["slices"], gland["volume_ml"]) == (26, 3, 0.156)
    assert gland["mean_confidence"] == pytest.approx(0.85), "of the slices that nobody has changed"
    assert (gland["lowest_confidence"], gland["lowest_confidence_slice"]) == (0.8, 3)
    assert cyst["voxels"] == 336 and cyst["mean_confidence"] is None
    assert [one["slice"] for one in record["review"]] == [3]
    assert record["corrected"]["slices"] == {"gland": [2], "cyst": [0, 1, 2, 3, 4, 5]}
    kept = read_segmentation(ward.folder.path / record["result"])
    assert kept.names == ["gland", "cyst"] and (kept.segments[0].mask == mask).all()
    assert ward.row.state is State.CORRECTED


def test_a_second_correction_is_a_second_version_and_that_before_counts_if_it_is_removed(ward):
    ward.correct(np.zeros_like(ward.mask))
    first = ward.folder.record(ward.key)
    ward.correct(ward.mask)
    second = ward.folder.record(ward.key)
    assert len(ward.corrected) == 4 and first["result"] != second["result"]
    assert first["objects"][0]["voxels"] == 0 and second["objects"][0]["voxels"] == 36
    assert second["corrected"]["program_result"] == first["corrected"]["program_result"]
    (ward.folder.path / second["result"]).unlink()
    assert ward.folder.record(ward.key) == first
    ward.correct(ward.mask)
    assert ward.folder.record(ward.key)["objects"][0]["voxels"] == 36, "and the next one counts again"


def test_what_was_corrected_is_never_computed_again_also_if_the_record_of_the_program_is_gone(ward):
    class Never(Process):
        def segment(self, study, files, cancel):
            raise AssertionError("it was computed again")

        def words(self, error):
            return str(error)

    ward.correct(ward.mask)
    (ward.folder.path / "records" / f"{ward.key}.json").unlink()
    ward.files.result.unlink()
    with Never(ward.folder) as process:
        assert process.do(ward.study, CancelToken()).kind is Kind.BEFORE
    assert len(ward.corrected) == 2


def test_page_and_table_show_what_was_corrected(ward):
    mask = ward.mask.copy()
    mask[1] = 0
    ward.correct(mask)
    write_summary(ward.folder, [ward.study], ABOUT)
    page = (ward.folder.path / "index.html").read_text(encoding="utf-8")
    assert "1 corrected by hand" in page and "corrected result" in page and "program&#x27;s" in page
    assert "Müller &amp; 50 %.nrrd" in page and "corrected/M%C3%BCller" in page
    (row,) = csv.DictReader(io.StringIO((ward.folder.path / "summary.csv").read_text(encoding="utf-8")))
    assert row["state"] == "corrected by hand" and row["voxels"] == "24" and row["result"].startswith("corrected/")


def test_a_folder_that_cannot_be_written_is_reported_and_nothing_is_left(ward):
    (ward.folder.path / "corrected").write_text("a file in the place of the folder")
    with pytest.raises(OutputError, match="cannot be used"):
        ward.correct(ward.mask)
    assert ward.row.state is State.DONE


def test_a_correction_is_corrected_again_although_the_result_of_the_program_is_gone(ward):
    ward.correct(ward.mask)
    ward.files.result.unlink()
    mask = ward.mask.copy()
    mask[1] = 0
    ward.correct(mask)
    record = ward.folder.record(ward.key)
    assert record["objects"][0]["voxels"] == 24 and record["corrected"]["slices"] == {"gland": [2, 3]}
    assert record["objects"][0]["mean_confidence"] is None and record["review"] == []
