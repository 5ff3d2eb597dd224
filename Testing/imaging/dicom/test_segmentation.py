"""DICOM SEG as a support: segments with names and codes, whatever the file is called."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom is not installed")

from dicom_made import dataset, save, segmentation, stack
from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, read_segmentation

GRID = VolumeGeometry((14, 12, 9), (1.1, 1.1, 3.3))
ORGAN = np.zeros(GRID.shape_kji, bool)
ORGAN[0:6, 3:8, 2:9] = True
BLOCK = np.zeros(GRID.shape_kji, bool)
BLOCK[2:9, 6:11, 7:13] = True


def frames(number: int, mask: np.ndarray, slices=range(9)):
    return [(number, (0.0, 0.0, round(3.3 * k, 4)), mask[k]) for k in slices]


@pytest.mark.parametrize("name", ["IM0001", "IM0001.dcm"])
def test_segments_are_their_own_also_where_they_overlap(tmp_path, name) -> None:
    made = segmentation([*frames(1, ORGAN), *frames(2, BLOCK)], ["prostate", "other"])
    found = read_segmentation(save(made, tmp_path / name), GRID)
    assert found.names == ["prostate", "other"]
    for segment, mask in zip(found.segments, (ORGAN, BLOCK), strict=True):
        np.testing.assert_array_equal(segment.mask, mask)
    assert found.segments[0].terminology["type"] == ["SCT", "41216001", "Prostate"]
    assert [one.metadata["label_value"] for one in found.segments] == [1, 2]
    np.testing.assert_array_equal(read_segmentation(tmp_path).segments[1].mask, BLOCK)


def test_empty_slices_that_the_file_leaves_out_are_put_back(tmp_path) -> None:
    made = segmentation([*frames(1, ORGAN, (0, 1, 4)), *frames(2, BLOCK, (8, 7))], ["a", "b"])
    found = read_segmentation(save(made, tmp_path / "x"), GRID)
    kept = np.isin(np.arange(9), (0, 1, 4))[:, None, None]
    np.testing.assert_array_equal(found.segments[0].mask, ORGAN & kept)
    np.testing.assert_array_equal(found.segments[1].mask, BLOCK & np.isin(np.arange(9), (7, 8))[:, None, None])
    assert read_segmentation(tmp_path / "x").geometry.size_ijk == (14, 12, 9)


def test_the_places_of_the_frames_count_and_not_the_distance_in_the_header(tmp_path) -> None:
    for distance, slices in ((3.0, (0, 1)), (3.3, (0, 1)), (3.3, (0, 1, 2, 5)), (2.8, (4, 6))):  # 3.3 is what it says
        made = segmentation([(1, (0.0, 0.0, distance * k), ORGAN[k]) for k in slices], ["a"])
        found = read_segmentation(save(made, tmp_path / f"{distance}-{len(slices)}"))
        k = found.geometry.shape_kji[0] - 1
        corner = found.geometry.affine @ [0, 0, k, 1]
        np.testing.assert_allclose(corner[2], distance * slices[-1], atol=1e-6)


def test_of_a_fractional_one_the_upper_half_counts(tmp_path) -> None:
    made = segmentation(frames(1, ORGAN), ["a"], SegmentationType="FRACTIONAL", MaximumFractionalValue=200)
    values = np.where(ORGAN, 150, 60).astype(np.uint8)
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelData = 7, values.tobytes()
    found = read_segmentation(save(made, tmp_path / "x.dcm"), GRID)
    assert len(found.segments) == 1
    np.testing.assert_array_equal(found.segments[0].mask, ORGAN)


def test_what_is_no_segmentation_or_of_another_place_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="is DICOM, but no segmentation .MR Image"):
        read_segmentation(save(dataset(stack(1)[0]), tmp_path / "a.dcm"))
    made = segmentation(frames(7, ORGAN), ["a"])
    with pytest.raises(InputError, match="frames of the segment 7"):
        read_segmentation(save(made, tmp_path / "b.dcm"))
    other = VolumeGeometry((14, 12, 9), (1.1, 1.1, 3.3), (0, 0, 1.5))
    with pytest.raises(GeometryError, match="lies on another grid"):
        read_segmentation(save(segmentation(frames(1, ORGAN), ["a"]), tmp_path / "c.dcm"), other)


def test_what_highdicom_writes_comes_back_voxel_for_voxel_and_code_for_code(tmp_path) -> None:
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    from dicom_made import write_series
    from ProxyPromptSegmentLib.imaging.dicom_seg import write_dicom_seg

    write_series(tmp_path / "s", stack(), [(-5.0, 7.0, 3.3 * k) for k in range(9)])
    grid = VolumeGeometry((14, 12, 9), (1.1, 1.1, 3.3), (-5, 7, 0))
    terms = {
        "category": ["SCT", "123037004", "Anatomical Structure"],
        "type": ["SCT", "41216001", "Prostate"],
        "anatomicRegion": ["SCT", "12738006", "Brain"],
    }
    told = Segmentation(
        [Segment("Prostata, groß", ORGAN, (0.9, 0.4, 0.1), terms), Segment("block", BLOCK, (0.1, 0.2, 0.8))], grid
    )
    write_dicom_seg(tmp_path / "x.dcm", told, tmp_path / "s", algorithm="Proxy Prompt x")
    back = read_segmentation(tmp_path / "x.dcm", grid)
    assert back.names == told.names
    for one, other in zip(back.segments, told.segments, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_allclose(one.color_rgb, other.color_rgb, atol=0.02)
    found = back.segments[0].terminology
    assert {key: found[key] for key in terms} == terms
