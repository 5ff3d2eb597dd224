"""The report: hashes, numbers and notes from which a result can be judged and made again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from command_cases import GRID, InContextModel, a_case, write_case
from plain_run import run
from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.imaging.volumes import read_volume
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.reports.report import (
    build_report,
    describe_file,
    describe_volume,
    to_text,
    versions,
    write_report,
)
from ProxyPromptSegmentLib.support.case import read_support_case


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter(InContextModel(), "cpu", batch=1, across_slices=False)


def a_report(folder: Path, segmenter: Segmenter, cancel: CancelToken | None = None, **more: object) -> dict:
    case = read_support_case(*write_case(folder, "old", a_case(1)))
    target = read_volume(write_case(folder, "new", a_case(2))[0])
    job = plan([case], target)
    outcome = run(segmenter, job, cancel=cancel)
    notes = [str(note) for note in (*job.notes, *outcome.notes)]
    return build_report(job, outcome, [case], {"threshold": 0.5}, {"total": 1.23456}, notes=notes, **more)


def test_the_report_names_every_input_by_its_hash(tmp_path, segmenter) -> None:
    report = a_report(tmp_path, segmenter)
    support, target = report["inputs"]["supports"][0], report["inputs"]["target"]
    for entry, name in (
        (support["image"], "old.nrrd"),
        (support["segmentation"], "old.seg.nrrd"),
        (target, "new.nrrd"),
    ):
        assert Path(entry["path"]).name == name
        assert entry["sha256"] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert [s["slice"] for s in support["slices"]] == [1, 2, 3, 4]
    assert support["slices"][0]["objects"] == ["gland", "stone"]
    assert support["plane"] == target["plane"] == "axial"
    assert report["model"] == {
        "name": "double",
        "file": "double.safetensors",
        "sha256": "ab" * 32,
        "steps": 7,
    }
    assert report["research_use_only"] is True
    assert report["state"] == "complete"
    assert report["seconds"] == {"total": 1.235}


def test_volumes_slices_and_doubts_are_those_of_the_masks(tmp_path, segmenter) -> None:
    report = a_report(tmp_path, segmenter)
    gland = report["objects"][0]
    truth = a_case(2)[1].segments[0].mask
    assert gland["voxels"] == int(truth.sum())
    assert gland["volume_ml"] == pytest.approx(truth.sum() * np.prod(GRID.spacing_mm) / 1000, abs=1e-3)
    assert gland["slices_found"] == list(np.flatnonzero(truth.any(axis=(1, 2))))
    doubts = gland["lowest_confidence"]
    assert [d["slice"] for d in doubts[:2]] == [1, 4]  # beside slices without the object
    assert doubts == sorted(doubts, key=lambda d: d["confidence"])
    assert len(gland["confidence"]) == 6 and all(0 <= one <= 1 for one in gland["confidence"])
    assert all(gland["confidence"][d["slice"]] == pytest.approx(d["confidence"], abs=0.006) for d in doubts)
    names = SliceNames(**report["inputs"]["target"]["slice_positions"])
    assert all(d["position"] == names.position(d["slice"]) for d in doubts) and names == SliceNames.of(GRID, "k")


def test_dice_is_there_only_if_there_is_a_truth(tmp_path, segmenter) -> None:
    assert "dice" not in a_report(tmp_path, segmenter)["objects"][0]
    with_truth = a_report(tmp_path, segmenter, truth=tmp_path / "new.seg.nrrd", dice={"gland": 0.98765})
    assert [entry.get("dice") for entry in with_truth["objects"]] == [0.9877, None]
    assert with_truth["inputs"]["truth"]["sha256"]


def test_a_stopped_job_says_so_and_stays_json(tmp_path, segmenter) -> None:
    cancel = CancelToken()
    cancel.cancel()
    report = a_report(tmp_path, segmenter, cancel)
    assert report["state"] == "stopped by the user"
    assert report["slices_done"] == []
    assert report["objects"][0]["highest_presence"] is None
    assert set(report["objects"][0]["confidence"]) == {None}, "of slices that were not done nothing is known"
    assert json.loads(to_text(report)) == report


def test_a_folder_is_hashed_by_the_names_and_contents_of_its_files(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    first = describe_file(tmp_path)
    assert first["files"] == 1
    (tmp_path / "a").rename(tmp_path / "b")
    assert describe_file(tmp_path)["sha256"] != first["sha256"]


def test_a_picture_has_no_millimetres_and_equal_voxels_have_equal_hashes(tmp_path) -> None:
    pil = pytest.importorskip("PIL.Image")
    array = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name in ("a.png", "b.tif"):
        pil.fromarray(array).save(tmp_path / name)
    first, second = (describe_volume(read_volume(tmp_path / name)) for name in ("a.png", "b.tif"))
    assert first["spacing_mm"] is None
    assert first["voxels_sha256"] == second["voxels_sha256"]
    assert first["sha256"] != second["sha256"]


def test_versions_name_what_computes() -> None:
    assert {"proxyprompt", "python", "torch", "numpy"} <= versions().keys()


def test_a_report_is_written_whole_and_never_with_nan(tmp_path) -> None:
    write_report(tmp_path / "r.json", {"name": "Prostata ä"})
    assert json.loads((tmp_path / "r.json").read_text("utf-8")) == {"name": "Prostata ä"}
    with pytest.raises(ValueError, match="JSON"):
        write_report(tmp_path / "s.json", {"dice": float("nan")})
    with pytest.raises(OutputError):
        write_report(tmp_path / "no" / "r.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
