"""NIfTI by its own header: lengths, places, codes and values as they are written, or refused."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pytest

from nifti_made import VALUES, nifti
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.readers.formats import read_stored
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), 0.0, -5.0, 352.5, 1e30])
def test_voxels_begin_behind_the_header_or_not_at_all(tmp_path, offset) -> None:
    (tmp_path / "x.nii").write_bytes(nifti((3, 4, 5), 4, 16, VALUES.tobytes(), offset=offset))
    with pytest.raises(InputError, match="voxels begin at byte|cut short"):
        read_volume(tmp_path / "x.nii")


@pytest.mark.parametrize("length", [0.0, float("nan"), float("inf"), -1.0])
def test_no_length_is_made_up(tmp_path, length) -> None:
    for codes in ((0, 0), (1, 0)):
        (tmp_path / "x.nii").write_bytes(nifti((3, 4, 5), 4, 16, VALUES.tobytes(), pixdim=(length, 1, 1), codes=codes))
        with pytest.raises(InputError, match="lengths above 0 are needed"):
            read_volume(tmp_path / "x.nii")


def test_the_sform_counts_and_a_qform_that_differs_is_reported(tmp_path, caplog) -> None:
    (tmp_path / "x.nii").write_bytes(nifti((3, 4, 5), 4, 16, VALUES.tobytes(), codes=(1, 2), shift=10.0))
    with caplog.at_level(logging.WARNING):
        volume = read_volume(tmp_path / "x.nii")
    assert volume.geometry.origin_lps == (-10, -10, 10)
    assert "two matrices that differ by up to 17.3 mm" in caplog.text
    np.testing.assert_array_equal(volume.array.ravel(), VALUES)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_result_has_the_matrices_of_its_target_and_their_codes(tmp_path, suffix) -> None:
    content = nifti((3, 4, 5), 4, 16, VALUES.tobytes(), codes=(1, 2), shift=10.0)
    target = tmp_path / f"t{suffix}"
    target.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    mask = np.zeros((5, 4, 3), np.uint8)
    mask[1:3] = 1
    result = Segmentation([Segment("label 3", mask)], read_volume(target).geometry)
    write_segmentation(tmp_path / f"r{suffix}", result, target)
    written = (tmp_path / f"r{suffix}").read_bytes()
    written = gzip.decompress(written) if suffix == ".nii.gz" else written
    assert written[252:328] == content[252:328] and written[76:92] == content[76:92]
    np.testing.assert_array_equal(read_stored(tmp_path / f"r{suffix}").array, mask * 3)


def test_colours_keep_their_values_and_vectors_are_refused(tmp_path) -> None:
    colours = (np.arange(180) % 200).astype(np.uint8)
    (tmp_path / "rgb.nii").write_bytes(nifti((3, 4, 5), 128, 24, colours.tobytes(), slope=0.5))
    np.testing.assert_array_equal(read_volume(tmp_path / "rgb.nii").array.ravel(), colours)
    (tmp_path / "v.nii").write_bytes(nifti((3, 4, 5, 1, 3), 2, 8, colours.tobytes(), slope=0.5))
    with pytest.raises(InputError, match="3 values per voxel"):
        read_volume(tmp_path / "v.nii")


def test_values_are_scaled(tmp_path) -> None:
    (tmp_path / "x.nii").write_bytes(nifti((3, 4, 5), 4, 16, VALUES.tobytes(), slope=0.5))
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii").array.ravel(), VALUES * 0.5)


def test_the_voxels_are_those_of_the_file_even_beside_one_of_the_same_name_unpacked(tmp_path) -> None:
    (tmp_path / "x.nii").write_bytes(nifti((3, 4, 5), 4, 16, VALUES.tobytes()))
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(nifti((3, 4, 5), 4, 16, (VALUES + 7).astype("<i2").tobytes())))
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").array.ravel(), VALUES + 7)  # ITK reads x.nii
