"""The studies of a folder: what the panel begins the command line continues, and the other way round."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without a Slicer application")
pytest.importorskip("torch")

from adapt_cases import picture, register_small_model, use_folder, write_case
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume
from ProxyPromptSegmentLib.support.case import read_support_case
from ProxyPromptSegmentModule.runs.folder_request import FolderRequest, StudyFolder, SupportFiles
from ProxyPromptSegmentModule.runs.folder_tasks import ListTask
from ProxyPromptSegmentModule.runs.request import Settings
from ProxyPromptSegmentModule.runs.study_reading import ReadStudyTask

SETTINGS = Settings(model="small", device="cpu", threshold=0.001, register=False)


class Archive:
    """A folder with three studies, a support beside it, and what segments the one by the other in both ways."""

    def __init__(self, folder: Path, logic):
        self.place, self.output, self.logic = folder / "archive", folder / "results", logic
        self.place.mkdir()
        for seed, name in ((1, "one"), (2, "two"), (3, "three")):
            write_volume(self.place / f"{name}.nrrd", picture(seed)[0])
        write_case(folder, "old", 0)
        self.files = (folder / "old.nrrd", folder / "old.seg.nrrd")

    def request(self, files=True, **more):
        support = SupportFiles(title="old", case=read_support_case(*self.files), files=self.files if files else None)
        folder = StudyFolder(place=self.place, output=self.output)
        return FolderRequest(**{"folder": folder, "supports": (support,), "settings": SETTINGS, **more})

    def until(self, done):
        for _turn in range(100_000):
            if done():
                return
            self.logic.pump.turn()
        raise AssertionError("it did not happen")

    def panel(self, **more):
        studies = self.logic.segment_folder(self.request(**more))
        self.until(lambda: studies.ended)
        return studies

    def command(self, support=None):
        image, marks = support or self.files
        words = ["cohort", self.place, "--support", image, marks, "--model", "small", "--device", "cpu"]
        words += ["--output", self.output, "--threshold", "0.001", "--no-register", "--quiet"]
        return main([str(word) for word in words])

    def states(self, studies):
        return {row.study.name: str(studies.state_of(row)) for row in studies.rows.values()}

    def records(self):
        return {path.stem: path.read_bytes() for path in (self.output / "records").glob("*.json")}

    def results(self):
        return {path.name: path.read_bytes() for path in (self.output / "results").glob("*.seg.nrrd")}

    def rows(self):
        with (self.output / "summary.csv").open(encoding="utf-8") as lines:
            return {row["study"]: row["state"] for row in csv.DictReader(lines)}

    def leftovers(self):
        return [path.name for path in (*(self.output / "claims").iterdir(), *self.output.rglob(".*"))]


@pytest.fixture
def archive(scene, logic, tmp_path, monkeypatch):
    use_folder(monkeypatch, tmp_path)
    register_small_model(tmp_path)
    return Archive(tmp_path, logic)


def test_the_command_line_continues_what_the_panel_began_and_the_panel_what_the_command_line_began(archive):
    left = frozenset({archive.place / "three.nrrd"})
    studies = archive.panel(left_out=left)
    assert studies.state == "finished", studies.error
    assert archive.rows() == {"one.nrrd": "done", "two.nrrd": "done", "three.nrrd": "not done yet"}
    assert (archive.output / "index.html").is_file() and not archive.leftovers()
    before = archive.records()
    assert len(before) == 2
    by_panel = archive.results()
    assert archive.command() == 0
    assert len(archive.records()) == 3 and before.items() <= archive.records().items(), "what is done is done"
    assert archive.rows()["three.nrrd"] == "done"
    again = archive.panel()
    assert set(archive.states(again).values()) == {"before"} and len(archive.records()) == 3
    other = archive.output.rename(archive.output.with_name("by panel"))
    assert archive.command() == 0
    assert by_panel.items() <= archive.results().items(), "both write the very same bytes"
    keys = [set(json.loads(path.read_text())) for path in (other / "records").glob("*.json")]
    assert all(one == keys[0] for one in keys)


def test_supports_that_are_in_no_file_are_written_once_beside_the_results_and_found_by_the_command_line(archive):
    assert archive.panel(files=False).state == "finished"
    image, mask = sorted((archive.output / "supports").iterdir(), key=lambda path: path.name.endswith(".seg.nrrd"))
    about = json.loads((archive.output / "cohort.json").read_text())
    assert about["supports"][0]["image"] == str(image)
    before = archive.records()
    assert archive.command((image, mask)) == 0 and archive.records() == before
    again = archive.panel(files=False)
    assert set(archive.states(again).values()) == {"before"}, again.error
    assert sorted((archive.output / "supports").iterdir()) == sorted([image, mask])
    foreign = archive.panel(settings=Settings(model="small", device="cpu", threshold=0.5, register=False))
    assert foreign.state == "failed" and "holds another cohort, with threshold 0.001 and not 0.5" in foreign.error


@pytest.mark.slow
def test_what_fails_is_listed_and_tried_again_and_a_copy_of_the_support_is_left_out(archive):
    (archive.place / "two.nrrd").write_bytes(b"no image")
    (archive.place / "copy.nrrd").write_bytes(archive.files[0].read_bytes())
    studies = archive.panel()
    assert archive.states(studies) == {
        "one.nrrd": "done", "two.nrrd": "failed", "three.nrrd": "done", "copy.nrrd": "left out",
    }  # fmt: skip
    rows = {row.study.name: row for row in studies.rows.values()}
    assert "two.nrrd" in studies.reason_of(rows["two.nrrd"])
    assert "support" in studies.reason_of(rows["copy.nrrd"])
    write_volume(archive.place / "two.nrrd", picture(2)[0])
    again = archive.panel()
    assert archive.states(again)["two.nrrd"] == "done" and archive.states(again)["one.nrrd"] == "before"


@pytest.mark.slow
def test_cancel_and_a_scene_that_is_closed_keep_what_is_done_and_leave_no_claim(archive, scene):
    for end in ("cancel", "close"):
        studies = archive.logic.segment_folder(archive.request())
        wanted = 1 if end == "cancel" else 2
        archive.until(lambda studies=studies, wanted=wanted: studies.count("done", "before") >= wanted or studies.ended)
        if end == "cancel":
            studies.cancel()
        else:
            scene.Clear(False)
        archive.until(lambda studies=studies: studies.ended and not archive.logic.worker.busy)
        assert studies.state in ("cancelled", "finished") and not archive.leftovers()
    assert archive.panel().state == "finished" and len(archive.records()) == 3


def test_a_folder_is_listed_with_what_became_of_its_studies_and_one_of_them_is_read(archive):
    found = []
    folder = StudyFolder(place=archive.place, output=archive.output)
    archive.logic.list_studies(folder, lambda listing, error: found.append((listing, error)))
    archive.until(lambda: found)
    assert [row.state.name for row in found[0][0].rows] == ["OPEN"] * 3 and not archive.output.exists()
    archive.panel()
    listing = ListTask(folder=folder)()
    row = next(row for row in listing.rows if row.study.name == "one.nrrd")
    assert row.state.name == "DONE" and row.objects[0]["volume_ml"] > 0 and listing.about["model"]["name"] == "small"
    read = ReadStudyTask(
        path=row.study.path, result=archive.output / row.facts["result"], report=archive.output / row.facts["report"]
    )()
    stored = read_segmentation(archive.output / row.facts["result"])
    segment, mask = read.segments[0], stored.segments[0].mask
    spans = tuple(slice(low, low + size) for low, size in zip(segment.start, segment.mask.shape, strict=True))
    assert (segment.mask == mask[spans]).all() and segment.mask.sum() == mask.sum() > 0 and read.facts.axis == "k"
    assert sum(segment.pixels.values()) == mask.sum() and len(segment.written) == 5
    assert [one.index for one in read.facts.doubts.get("gland", ())] == [one["slice"] for one in row.facts["review"]]
    assert sorted(read.facts.confidence["gland"]) == list(range(5)), "the confidence of each slice is known"
    archive.logic.list_studies(
        StudyFolder(place=archive.place / "none", output=archive.output), lambda *a: found.append(a)
    )
    archive.until(lambda: len(found) == 2)
    assert found[1][0] is None and "does not exist" in found[1][1]


def test_an_image_that_is_nearly_all_background_is_not_shown_black(tmp_path):
    volume = picture(1)[0]
    array = np.zeros((8, 40, 40), np.float32)
    array[4, 10, 10:13] = 7
    geometry = VolumeGeometry.from_affine(volume.geometry.affine, (40, 40, 8))
    write_volume(tmp_path / "vessels.nrrd", Volume(array, geometry, "vessels"))
    assert ReadStudyTask(path=tmp_path / "vessels.nrrd")().window == (0.0, 7.0)
