"""`proxyprompt segment --output x.dcm`: a result for a picture archive."""

from __future__ import annotations

import sys

import pytest

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
hd = pytest.importorskip("highdicom", reason="highdicom is not installed")

import numpy as np

from dicom_cases import write_dicom_volume
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation

UID = "1.2.826.0.1.3680043.2.1125.55"


@pytest.fixture
def series(desk):
    write_dicom_volume(desk.folder / "series", desk.truth[0], UID)
    return desk.folder / "series"


def test_a_target_in_dicom_gets_a_dicom_segmentation_with_the_same_masks(desk, series, capsys) -> None:
    assert main(desk.words(target=series)) == 0
    assert main(desk.words(target=series, output=desk.folder / "x.dcm")) == 0
    expected = read_segmentation(desk.output)
    found = hd.seg.segread(desk.folder / "x.dcm")
    names = [one.SegmentLabel for one in found.SegmentSequence]
    assert names == expected.names
    assert {one.SegmentAlgorithmType for one in found.SegmentSequence} == {"AUTOMATIC"}
    assert all(one.SegmentAlgorithmName.startswith("Proxy Prompt ") for one in found.SegmentSequence)
    assert (str(found.PatientName), found.PatientID) == ("Doe^Jane", "4711")
    uids = [f"{UID}.{k + 1}" for k in range(expected.geometry.size_ijk[2])]
    back = found.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    stacked = np.stack([segment.mask for segment in expected.segments], axis=-1)
    assert stacked.any() and np.array_equal(back, stacked)


def test_a_target_that_is_not_dicom_is_refused_before_the_work(desk, no_model, capsys) -> None:
    assert main(desk.words(output=desk.folder / "x.dcm")) == 6
    said = capsys.readouterr().err
    assert "was not read from DICOM" in said and ".seg.nrrd" in said
    assert not (desk.folder / "x.dcm").exists()


def test_a_dicom_segmentation_that_is_there_is_kept_without_force(desk, series, no_model, capsys) -> None:
    (desk.folder / "x.dcm").write_text("mine")
    assert main(desk.words(target=series, output=desk.folder / "x.dcm")) == 6
    assert (desk.folder / "x.dcm").read_text() == "mine" and "--force" in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_installation_before_the_work(desk, series, no_model, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    assert main(desk.words(target=series, output=desk.folder / "x.dcm")) == 6
    assert "pip install highdicom" in capsys.readouterr().err
