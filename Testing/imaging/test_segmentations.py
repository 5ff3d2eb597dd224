"""Segmentations: what is written is read back, on the volume's own grid, by this program and by others."""

from __future__ import annotations

import itertools
import os
from datetime import datetime
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geometry_cases import geometries, turned, turned_array
from overlapping import GRID, box, masks_of, two_overlapping
from ProxyPromptSegmentLib.errors import GeometryError, InputError, OutputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.segmentations import (
    Segment,
    Segmentation,
    read_segmentation,
    to_label_map,
    write_segmentation,
)
from segmentation_cases import TERMS


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    geometry=geometries(),
    suffix=st.sampled_from((".seg.nrrd", ".nii.gz", ".nrrd", ".mha")),
    count=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read_back_on_the_same_grid(
    tmp_path: Path, geometry: VolumeGeometry, suffix: str, count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, count + 1, geometry.shape_kji)
    labels.flat[: min(count, labels.size)] = np.arange(1, min(count, labels.size) + 1)
    present = [n for n in range(1, count + 1) if (labels == n).any()]
    original = Segmentation([Segment(f"s{n}", labels == n) for n in present], geometry)
    path = tmp_path / f"x{suffix}"
    assert write_segmentation(path, original) == []
    alone = read_segmentation(path)
    # NIfTI keeps float32 and a quaternion; the other formats keep float64
    np.testing.assert_allclose(alone.geometry.affine, geometry.affine, atol=1e-3 if "nii" in suffix else 1e-9)
    np.testing.assert_array_equal(masks_of(alone), masks_of(original))
    placed = read_segmentation(path, geometry)
    assert placed.geometry == geometry
    np.testing.assert_array_equal(masks_of(placed), masks_of(original))
    assert os.listdir(tmp_path) == [path.name]
    path.unlink()


def test_names_colours_terminology_status_and_overlaps_survive_slicers_format(tmp_path: Path) -> None:
    original = two_overlapping()
    assert write_segmentation(tmp_path / "x.seg.nrrd", original) == []
    back = read_segmentation(tmp_path / "x.seg.nrrd", GRID)
    assert back.names == ["prostate", "Läsion µ1"]
    assert [s.color_rgb for s in back.segments] == [(0.9, 0.6, 0.3), (1.0, 0.0, 0.0)]
    assert [s.terminology for s in back.segments] == [TERMS, None]
    assert back.segments[0].metadata["status"] == "completed"
    assert back.segments[1].metadata["tags"] == {"a.b": "c d"}
    np.testing.assert_array_equal(masks_of(back), masks_of(original))
    # a second round changes nothing
    write_segmentation(tmp_path / "y.seg.nrrd", back)
    again = read_segmentation(tmp_path / "y.seg.nrrd")
    assert [(s.name, s.color_rgb, s.terminology, s.metadata) for s in again.segments] == [
        (s.name, s.color_rgb, s.terminology, s.metadata) for s in back.segments
    ]


def test_names_are_utf_8_in_the_file_as_slicer_writes_them(tmp_path: Path) -> None:
    write_segmentation(tmp_path / "x.seg.nrrd", two_overlapping())
    assert "Segment1_Name:=Läsion µ1\n".encode() in (tmp_path / "x.seg.nrrd").read_bytes()


def test_one_content_gives_one_file_whenever_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for year in (2024, 2031):
        monkeypatch.setattr("nrrd.writer.datetime", Mock(utcnow=lambda year=year: datetime(year, 1, 2)))
        write_segmentation(tmp_path / f"{year}.seg.nrrd", two_overlapping())
        written.append((tmp_path / f"{year}.seg.nrrd").read_bytes())
    assert written[0] == written[1] and b"# on" not in written[0]


def test_other_programs_read_the_same_place_and_voxels(tmp_path: Path) -> None:
    one = Segmentation(two_overlapping().segments[:1], GRID)
    write_segmentation(tmp_path / "x.seg.nrrd", one)
    image = sitk.ReadImage(str(tmp_path / "x.seg.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), one.segments[0].mask)
    np.testing.assert_allclose(image.TransformContinuousIndexToPhysicalPoint((5, 4, 3)), GRID.index_to_lps((5, 4, 3)))
    content = slicerio.read_segmentation(str(tmp_path / "x.seg.nrrd"))
    np.testing.assert_array_equal(slicerio.segment_mask(content, "prostate").T, one.segments[0].mask)


def test_segments_that_do_not_overlap_share_a_layer(tmp_path: Path) -> None:
    same = {"id": "Segment_1"}  # as two segments copied from different files may have
    apart = [Segment(str(n), box(GRID, (n, n + 1), (0, 5), (0, 6)), metadata=same) for n in range(4)]
    write_segmentation(tmp_path / "a.seg.nrrd", Segmentation(apart, GRID))
    assert slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))["voxels"].ndim == 3
    write_segmentation(tmp_path / "b.seg.nrrd", Segmentation([*apart, apart[0]], GRID))
    assert slicerio.read_segmentation(str(tmp_path / "b.seg.nrrd"))["voxels"].shape == (2, 6, 5, 4)
    ids = [s["id"] for s in slicerio.read_segmentation(str(tmp_path / "b.seg.nrrd"))["segments"]]
    assert len(set(ids)) == 5


def test_an_empty_segment_is_kept_in_slicers_format(tmp_path: Path) -> None:
    empty = Segmentation([Segment("nothing", np.zeros(GRID.shape_kji))], GRID)
    write_segmentation(tmp_path / "x.seg.nrrd", empty)
    assert read_segmentation(tmp_path / "x.seg.nrrd", GRID).names == ["nothing"]


def test_a_segmentation_cropped_as_slicer_saves_it_comes_back_in_place(tmp_path: Path) -> None:
    """Slicer saves the extent of the segments, with the origin of its first voxel."""
    mask = box(GRID, (1, 3), (2, 5), (1, 4))
    content = {
        "voxels": np.ones((3, 3, 2), np.uint8, order="F"),
        "ijkToLPS": VolumeGeometry(
            (3, 3, 2), GRID.spacing_mm, tuple(GRID.index_to_lps((1, 2, 1))), GRID.direction
        ).affine,
        "referenceImageExtentOffset": [1, 2, 1],
        "segments": [
            {"id": "Segment_1", "name": "prostate", "labelValue": 1, "layer": 0, "extent": [0, 2, 0, 2, 0, 1]}
        ],
    }
    slicerio.write_segmentation(str(tmp_path / "cropped.seg.nrrd"), content)
    back = read_segmentation(tmp_path / "cropped.seg.nrrd", GRID)
    np.testing.assert_array_equal(back.segments[0].mask, mask)
    assert read_segmentation(tmp_path / "cropped.seg.nrrd").geometry.size_ijk == (3, 3, 2)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nii.gz", ".mha"])
def test_a_mask_on_a_flipped_or_permuted_grid_comes_back_on_the_volumes_grid(
    tmp_path: Path, order: tuple[int, ...], suffix: str
) -> None:
    mask = np.random.default_rng(1).integers(0, 2, GRID.shape_kji, np.uint8)
    for flips in ((False, True, False), (True, False, True)):
        other = turned(GRID, order, flips)
        stored = Segmentation([Segment("m", turned_array(mask, order, flips))], other)
        write_segmentation(tmp_path / f"x{suffix}", stored)
        back = read_segmentation(tmp_path / f"x{suffix}", GRID)
        assert back.geometry == GRID
        np.testing.assert_array_equal(back.segments[0].mask, mask)


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nii.gz"])
def test_another_lattice_is_refused(tmp_path: Path, suffix: str) -> None:
    write_segmentation(tmp_path / f"x{suffix}", two_overlapping())
    shifted = VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, (-9.9, 20.2, 1 / 3), GRID.direction)
    with pytest.raises(GeometryError, match=f"x{suffix} lies on another grid"):
        read_segmentation(tmp_path / f"x{suffix}", shifted)


def test_a_segment_wholly_outside_of_the_volume_is_refused_and_a_part_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_segmentation(tmp_path / "x.nrrd", Segmentation(two_overlapping().segments[:1], GRID))
    away = VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, tuple(GRID.index_to_lps((60, 0, 0))), GRID.direction)
    with pytest.raises(GeometryError, match="entirely outside the volume"):
        read_segmentation(tmp_path / "x.nrrd", away)
    near = VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, tuple(GRID.index_to_lps((2, 0, 0))), GRID.direction)
    part = read_segmentation(tmp_path / "x.nrrd", near)
    np.testing.assert_array_equal(part.segments[0].mask, box(GRID, (0, 3), (1, 4), (0, 2)))
    assert "9 voxels of 'label 1' lie outside" in caplog.text


# --- label maps and pictures --------------------------------------------------------------------------------


def test_a_label_map_becomes_one_segment_per_value_and_keeps_the_values(tmp_path: Path) -> None:
    labels = np.zeros(GRID.shape_kji, np.int16)
    labels[0, 0, 0], labels[1, 1, 1], labels[2, 2, 2] = 3, 7, 200
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "x.nii.gz"))
    back = read_segmentation(tmp_path / "x.nii.gz")
    assert back.names == ["label 3", "label 7", "label 200"]
    write_segmentation(tmp_path / "y.nrrd", back)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "y.nrrd"))), labels)


def test_whole_numbers_stored_as_float_are_a_label_map_and_fractions_are_not(tmp_path: Path) -> None:
    labels = box(GRID, (0, 1), (0, 2), (0, 2)).astype(np.float64)
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "x.nii.gz"))
    np.testing.assert_array_equal(read_segmentation(tmp_path / "x.nii.gz").segments[0].mask, labels)
    sitk.WriteImage(sitk.GetImageFromArray(labels * 0.4), str(tmp_path / "p.nii.gz"))
    with pytest.raises(InputError, match="fractional"):
        read_segmentation(tmp_path / "p.nii.gz")


def test_an_image_given_as_segmentation_is_noticed(tmp_path: Path) -> None:
    sitk.WriteImage(
        sitk.GetImageFromArray(np.arange(1000, dtype=np.int16).reshape(10, 10, 10)), str(tmp_path / "t2.mha")
    )
    with pytest.raises(InputError, match=r"1000 different values.*image instead"):
        read_segmentation(tmp_path / "t2.mha")


def test_an_empty_label_map_is_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 3, 3), np.uint8)), str(tmp_path / "x.mha"))
    with pytest.raises(InputError, match="every voxel is 0"):
        read_segmentation(tmp_path / "x.mha")


def test_overlaps_in_a_label_map_are_told(tmp_path: Path) -> None:
    warnings = write_segmentation(tmp_path / "x.nii.gz", two_overlapping())
    assert len(warnings) == 1
    assert "x.nii.gz: 4 voxels belong to several segments" in warnings[0]
    labels, _ = to_label_map(two_overlapping())
    assert labels[1, 2, 2] == 2


def test_more_than_255_segments_fit_into_a_label_map() -> None:
    grid = VolumeGeometry((300, 1, 1))
    segments = [Segment(str(n), box(grid, (0, 1), (0, 1), (n, n + 1))) for n in range(300)]
    labels, warnings = to_label_map(Segmentation(segments, grid))
    np.testing.assert_array_equal(labels[0, 0], np.arange(1, 301))
    assert warnings == []


def test_png_masks_are_read_and_written_for_one_slice(tmp_path: Path) -> None:
    flat = VolumeGeometry((6, 5, 1), (0.3, 0.3, 1.0), (5, 6, 7))
    original = Segmentation(
        [Segment("a", box(flat, (0, 1), (0, 2), (0, 3))), Segment("b", box(flat, (0, 1), (3, 5), (0, 3)))],
        flat,
    )
    assert write_segmentation(tmp_path / "m.png", original) == []
    back = read_segmentation(tmp_path / "m.png", flat)
    assert back.names == ["label 1", "label 2"]
    assert back.geometry == flat
    np.testing.assert_array_equal(masks_of(back), masks_of(original))
    with pytest.raises(OutputError, match="one slice, the segmentation has 4"):
        write_segmentation(tmp_path / "m2.png", two_overlapping())
    with pytest.raises(GeometryError, match="6x5 pixels, the image has 7x5x1"):
        read_segmentation(tmp_path / "m.png", VolumeGeometry((7, 5, 1)))


def test_coloured_masks_become_one_segment_per_colour(tmp_path: Path) -> None:
    rgb = np.zeros((5, 6, 3), np.uint8)
    rgb[:2] = (255, 0, 0)
    rgb[3:] = (0, 0, 255)
    sitk.WriteImage(sitk.GetImageFromArray(rgb, isVector=True), str(tmp_path / "m.png"))
    back = read_segmentation(tmp_path / "m.png")
    assert [s.color_rgb for s in back.segments] == [(0, 0, 1), (1, 0, 0)]
    np.testing.assert_array_equal(back.segments[1].mask[0, :2], 1)
    assert int(back.segments[1].mask.sum()) == 12
    grey = np.zeros((5, 6, 3), np.uint8)
    grey[0] = 255
    sitk.WriteImage(sitk.GetImageFromArray(grey, isVector=True), str(tmp_path / "g.png"))
    assert read_segmentation(tmp_path / "g.png").names == ["label 255"]


def test_the_bright_half_of_a_jpeg_is_its_mask(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:40] = 255
    sitk.WriteImage(sitk.GetImageFromArray(mask), str(tmp_path / "m.jpg"))
    back = read_segmentation(tmp_path / "m.jpg")
    assert back.names == ["label 1"]
    np.testing.assert_array_equal(back.segments[0].mask[0], mask > 127)


def test_a_reading_in_another_file_format_fits_its_volume(drawn_prostates: Path) -> None:
    from ProxyPromptSegmentLib.imaging.volumes import read_volume

    folder = drawn_prostates / "p158_020"
    volume = read_volume(folder / "t2.nii.gz")
    reading = read_segmentation(folder / "t2_anatomy_reader1.nii.gz", volume.geometry)
    assert reading.names == ["label 1", "label 2"]
    _, drawn = pelvis_phantom(12, (23, 120, 120))
    first, second = (segment.mask for segment in reading.segments)
    assert first.any() and second.any()
    np.testing.assert_array_equal(first + second, drawn.segments[0].mask)
