"""Terminals, names and locales that are not as usual: the command says what it has to say, or works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dicom_cases import write_dicom
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.output_files import check_output_path
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, read_segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, read_volume, write_volume

ROOT = Path(__file__).resolve().parents[2]
LATIN_1 = os.fsdecode(b"M\xfcller")
GRID = VolumeGeometry((6, 5, 4))


def a_volume() -> Volume:
    return Volume(np.arange(120, dtype=np.float32).reshape(GRID.shape_kji), GRID)


def a_mask() -> Segmentation:
    mask = np.zeros(GRID.shape_kji, np.uint8)
    mask[1:3, 1:3] = 1
    return Segmentation([Segment("label 1", mask)], GRID)


def run_in_shell(redirected: str, **surroundings: str) -> subprocess.CompletedProcess[bytes]:
    command = f'"{sys.executable}" -m ProxyPromptSegmentLib models list {redirected}'
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, env={**os.environ, **surroundings}, check=False
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that closes streams")
@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_a_stream_that_is_closed_or_full_changes_nothing_about_the_result(redirected, home) -> None:
    done = run_in_shell(redirected)
    assert done.returncode == 0 and b"Traceback" not in done.stderr and b"Exception" not in done.stderr


def test_json_stays_json_where_the_terminal_knows_no_umlauts(home) -> None:
    (home / "own.json").write_text(
        json.dumps({"format": 2, "models": [{"name": "größe", "kind": "model", "file": "x.safetensors"}]})
    )
    done = run_in_shell("--json", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_a_name_that_is_not_utf_8_is_read(tmp_path) -> None:
    for suffix in (".nrrd", ".nii.gz", ".mha"):
        write_volume(tmp_path / f"x{suffix}", a_volume())
        (tmp_path / f"x{suffix}").rename(tmp_path / f"{LATIN_1}{suffix}")
        np.testing.assert_array_equal(read_volume(tmp_path / f"{LATIN_1}{suffix}").array, a_volume().array)
    write_segmentation(tmp_path / "x.seg.nrrd", a_mask())
    (tmp_path / "x.seg.nrrd").rename(tmp_path / f"{LATIN_1}.seg.nrrd")
    assert read_segmentation(tmp_path / f"{LATIN_1}.seg.nrrd").names == ["label 1"]
    write_dicom(tmp_path / "s", "1.2.3.1", "T2w")
    expected = read_volume(tmp_path / "s").array
    (tmp_path / "s").rename(tmp_path / LATIN_1)
    np.testing.assert_array_equal(read_volume(tmp_path / LATIN_1).array, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_a_result_may_have_a_name_that_is_not_utf_8_and_its_folder_may_not(tmp_path) -> None:
    for suffix in (".nii.gz", ".seg.nrrd", ".nrrd"):
        path = tmp_path / f"{LATIN_1}{suffix}"
        check_output_path(path, (suffix,))
        write_segmentation(path, a_mask())
        np.testing.assert_array_equal(read_segmentation(path).segments[0].mask, a_mask().segments[0].mask)
    (tmp_path / LATIN_1).mkdir()
    with pytest.raises(OutputError, match="not UTF-8"):
        check_output_path(tmp_path / LATIN_1 / "x.nrrd", (".nrrd",))


def test_a_name_of_as_many_bytes_as_a_file_may_have_is_written_and_a_longer_one_refused_before(tmp_path) -> None:
    path = tmp_path / (chr(0x1F9E0) * 61 + ".nrrd")
    check_output_path(path, (".nrrd",))
    write_segmentation(path, a_mask())
    assert path.is_file() and [file.name for file in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OutputError, match="more than 255 bytes"):
        check_output_path(tmp_path / (chr(0x1F9E0) * 63 + ".nrrd"), (".nrrd",))


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_that_leads_to_itself_is_no_place_for_a_result(desk, no_model, capsys) -> None:
    loop = desk.folder / "loop.seg.nrrd"
    loop.symlink_to(loop)
    assert main(desk.words(output=loop)) in (2, 6)
    assert "link that leads to itself" in capsys.readouterr().err


def test_numbers_of_thousands_of_digits_are_refused(desk, no_model, capsys) -> None:
    assert main(desk.words("--slices", "9" * 5000)) == 2
    assert "digits" in capsys.readouterr().err


def test_a_warning_begins_with_a_capital_unless_it_begins_with_a_file(capsys) -> None:
    import logging

    console = Console()
    with console.listening() as heard:
        for words in ("truth.seg.nrrd: 3 voxels are cropped", "the image is dark", "scans/a is cut."):
            logging.getLogger("ProxyPromptSegmentLib.x").warning(words)
    assert heard == ["truth.seg.nrrd: 3 voxels are cropped.", "The image is dark.", "scans/a is cut."]
