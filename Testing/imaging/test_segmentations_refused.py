"""Segmentations of bad files and on bad disks: refused with one sentence, and nothing half-written stays."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import slicerio

from overlapping import GRID, two_overlapping
from ProxyPromptSegmentLib.errors import GeometryError, InputError, OutputError
from ProxyPromptSegmentLib.imaging import segmentations
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import (
    Segment,
    Segmentation,
    read_segmentation,
    write_segmentation,
)


def test_a_slicer_file_with_a_plain_name_is_recognized(tmp_path: Path) -> None:
    write_segmentation(tmp_path / "x.seg.nrrd", two_overlapping())
    (tmp_path / "x.seg.nrrd").rename(tmp_path / "x.nrrd")
    assert read_segmentation(tmp_path / "x.nrrd").names == ["prostate", "Läsion µ1"]


@pytest.mark.parametrize("name", ["x.seg.nrrd", "x.nii.gz", "x.nrrd", "x.png"])
def test_missing_and_damaged_files_are_refused_with_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_segmentation(tmp_path / name)
    (tmp_path / name).write_text("This is no segmentation.\n")
    with pytest.raises(InputError, match=name) as caught:
        read_segmentation(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.99])
def test_a_slicer_file_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    rng = np.random.default_rng(0)
    grid = VolumeGeometry((40, 40, 10))
    write_segmentation(tmp_path / "x.seg.nrrd", Segmentation([Segment("a", rng.integers(0, 2, grid.shape_kji))], grid))
    data = (tmp_path / "x.seg.nrrd").read_bytes()
    (tmp_path / "y.seg.nrrd").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match=r"y.seg.nrrd (is cut short|has a header line)"):
        read_segmentation(tmp_path / "y.seg.nrrd")


def test_a_folder_without_a_dicom_segmentation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains 0 DICOM segmentations"):
        read_segmentation(tmp_path)


def test_masks_and_geometry_must_agree() -> None:
    with pytest.raises(GeometryError, match=r"\(2, 2, 2\).*\(4, 5, 6\)"):
        Segmentation([Segment("a", np.zeros((2, 2, 2)))], GRID)
    with pytest.raises(InputError, match="values up to 2"):
        Segment("a", np.full((2, 2, 2), 2))


def test_nothing_to_write_and_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no segment"):
        write_segmentation(tmp_path / "x.nrrd", Segmentation([], GRID))
    with pytest.raises(OutputError, match=r"allowed: \.seg\.nrrd"):
        write_segmentation(tmp_path / "x.stl", two_overlapping())


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nii.gz", ".mha"])
def test_a_full_disk_is_told_and_the_old_result_stays(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"old result")

    def full(partial: Path | str, *_: object, **__: object) -> None:
        Path(partial).write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(slicerio, "write_segmentation", full)
    monkeypatch.setattr(segmentations, "write_image", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_segmentation(path, two_overlapping())
    assert path.read_bytes() == b"old result"
    assert os.listdir(tmp_path) == [path.name]


def test_a_slicer_file_that_lost_voxels_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = slicerio.write_segmentation

    def lossy(file: str, content: dict, **more: object) -> None:
        really(file, {**content, "voxels": content["voxels"] * 0}, **more)

    monkeypatch.setattr(slicerio, "write_segmentation", lossy)
    with pytest.raises(OutputError, match="differs from what was written"):
        write_segmentation(tmp_path / "x.seg.nrrd", two_overlapping())
    assert os.listdir(tmp_path) == []


@pytest.fixture
def a_tiny_disk(tmp_path: Path):
    """A real file system of 64 KiB, where this machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_disk_that_is_really_full_leaves_nothing_half_written(a_tiny_disk: Path, suffix: str) -> None:
    grid = VolumeGeometry((128, 128, 40))
    noise = np.random.default_rng(0).integers(0, 2, grid.shape_kji)  # compresses to about 80 KiB
    with pytest.raises(OutputError, match=r"could not be written.*MiB are free"):
        write_segmentation(a_tiny_disk / f"x{suffix}", Segmentation([Segment("a", noise)], grid))
    assert os.listdir(a_tiny_disk) == []


def test_label_values_that_a_label_map_cannot_keep_are_reported(tmp_path: Path) -> None:
    geometry = VolumeGeometry((6, 5, 4), (1, 1, 1))
    masks = [np.zeros(geometry.shape_kji, np.uint8) for _ in range(2)]
    masks[0][1], masks[1][2] = 1, 1
    for values, said in (((3, 7), ""), ((3, 70000), "3 is 1, 70000 is 2"), ((5, 5), "5 is 1, 5 is 2")):
        segments = [
            Segment(f"s{n}", mask, metadata={"label_value": v})
            for n, (mask, v) in enumerate(zip(masks, values, strict=True))
        ]
        warnings = write_segmentation(tmp_path / "m.nii.gz", Segmentation(segments, geometry))
        assert len(warnings) == bool(said) and said in "".join(warnings)


def test_a_writer_that_is_cut_short_by_a_full_disk_gets_no_advice_for_inputs(tmp_path: Path, monkeypatch) -> None:
    import SimpleITK as sitk

    monkeypatch.setattr(sitk, "WriteImage", lambda image, path, **_: Path(path).write_bytes(b"\x89PN"))
    marked = Segmentation([Segment("a", np.ones((1, 4, 4), np.uint8))], VolumeGeometry((4, 4, 1)))
    with pytest.raises(OutputError, match="could not be written: what was written cannot be read back") as caught:
        write_segmentation(tmp_path / "m.png", marked)
    assert "Copy or export" not in str(caught.value) and not list(tmp_path.iterdir())
