"""Masks of frames: they come back voxel by voxel, as volumes, sequences, stacks and pictures."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn_data import carotid_sweep
from frame_cases import OBLIQUE, a_picture, a_sequence, a_volume, labels_of, some_masks, write_video
from geometry_cases import geometries
from ProxyPromptSegmentLib.errors import GeometryError, OutputError
from ProxyPromptSegmentLib.frames import FrameSource, open_frames
from ProxyPromptSegmentLib.frames.mask_files import stacked_geometry, write_tracked
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, take_slices
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from segmentation_cases import TERMS

RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_slices_of_a_volume_go_back_into_exactly_its_voxels(tmp_path, axis):
    source = a_volume(tmp_path, axis)
    masks = some_masks(source.count, 2, source.shape, overlap=True)
    assert not write_tracked(tmp_path / "m.seg.nrrd", masks, source, ["a", "ü"], [RED, GREEN], [TERMS, None])
    found = read_segmentation(tmp_path / "m.seg.nrrd")
    assert found.names == ["a", "ü"] and found.geometry == source.geometry
    assert [s.color_rgb for s in found.segments] == [RED, GREEN] and found.segments[0].terminology == TERMS
    for n, segment in enumerate(found.segments):
        np.testing.assert_array_equal(source.view.take(segment.mask), masks[:, n])


def test_some_slices_of_a_volume_become_a_label_map(tmp_path):
    source = a_volume(tmp_path)
    masks = some_masks(2, 2, source.shape, overlap=True)
    notes = write_tracked(tmp_path / "m.nii.gz", iter(masks), source, ["a", "b"], done=[True, False], numbers=[1, 3])
    assert len(notes) == 2 and "1 of 2 frames were not computed" in notes[0] and "several segments" in notes[1]
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "m.nii.gz")))
    expected = np.zeros(OBLIQUE.shape_kji, np.uint8)
    source.view.take(expected)[1] = labels_of(masks)[0]
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(GeometryError, match="no slice 5 in v; its slices are 0 to 4"):
        write_tracked(tmp_path / "m.nii.gz", masks, source, ["a", "b"], numbers=[1, 5])


@pytest.mark.parametrize("sagittal", [False, True])
def test_a_label_sequence_has_the_frames_places_and_times_of_its_source(tmp_path, sagittal):
    nrrd = pytest.importorskip("nrrd")
    source = a_sequence(tmp_path, sagittal)
    masks = some_masks(5, 2, source.shape)
    done = np.array([True, True, True, False, True])
    notes = write_tracked(tmp_path / "m.seq.nrrd", masks, source, ["thyroid", "nodule"], [RED, GREEN], done=done)
    assert len(notes) == 1 and "1 of 5 frames" in notes[0]
    voxels, header = nrrd.read(str(tmp_path / "m.seq.nrrd"), index_order="C")
    masks[3] = 0
    for t in range(5):
        np.testing.assert_array_equal(source.view.take(voxels[t])[0], labels_of(masks)[t])
    assert header["kinds"] == ["domain"] * 3 + ["list"] and header["DataNodeClassName"] == "vtkMRMLLabelMapVolumeNode"
    assert header["axis 3 index values"] == "0.0 0.10 0.2 0.4 0.5" and header["axis 3 index type"] == "numeric"
    assert (header["labels"][3], header["units"][3], header["type"]) == ("time", "s", "unsigned char")
    assert header["axis 3 item 0003 ProxyPromptState"] == "not done" and header["Label2_Name"] == "nodule"
    again = open_frames(tmp_path / "m.seq.nrrd")
    assert again.geometry == source.geometry and again.times_s == source.times_s
    for (_, frame), labels in zip(again, labels_of(masks), strict=True):
        np.testing.assert_array_equal(frame, labels)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("sagittal", [False, True])
def test_frames_stacked_as_slices_are_an_ordinary_segmentation(tmp_path, overlap, sagittal):
    source = a_sequence(tmp_path, sagittal)
    masks = some_masks(5, 3, source.shape, overlap)
    names = ["a", "Schilddrüse", "c"]
    assert not write_tracked(tmp_path / "m.seg.nrrd", (m for m in masks), source, names, None, [None, TERMS, None])
    found = read_segmentation(tmp_path / "m.seg.nrrd")
    assert found.names == names and found.segments[1].terminology == TERMS
    assert found.geometry == stacked_geometry(source, 5) and found.geometry.spacing_mm[2] == 1
    for n, segment in enumerate(found.segments):
        np.testing.assert_array_equal(segment.mask, source.as_stored(masks[:, n]))
    plain = slicerio.read_segmentation(str(tmp_path / "m.seg.nrrd"))
    assert plain["voxels"].ndim == (4 if overlap else 3)
    across, down = source.as_stored(masks).shape[:1:-1]
    assert [s["extent"] for s in plain["segments"]] == [[0, across - 1, 0, down - 1, 0, 4]] * 3
    assert [s["labelValue"] for s in plain["segments"]] == ([1, 1, 1] if overlap else [1, 2, 3])


@settings(deadline=None, max_examples=40)
@given(geometry=geometries(), axis=st.sampled_from("kji"))
def test_a_stack_lies_where_its_frames_lie(geometry, axis):
    number = "kji".index(axis)
    size = [1 if n == 2 - number else size for n, size in enumerate(geometry.size_ijk)]
    flat = VolumeGeometry(tuple(size), geometry.spacing_mm, geometry.origin_lps, geometry.direction)
    source = FrameSource(Path("x"), "sequence", flat, 3, axis)
    stack = stacked_geometry(source, 3)
    places = np.moveaxis(np.indices(flat.shape_kji)[::-1], 0, -1)
    np.testing.assert_allclose(
        stack.index_to_lps(np.moveaxis(np.indices((1, *stack.shape_kji[1:]))[::-1], 0, -1))[0],
        take_slices(flat.index_to_lps(places), axis)[0],
        atol=1e-6,
    )


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_frames_stacked_as_a_label_map(tmp_path, suffix):
    source = a_sequence(tmp_path)
    masks = some_masks(5, 2, source.shape, overlap=True)
    notes = write_tracked(tmp_path / f"m{suffix}", masks, source, ["a", "b"])
    assert "several objects" in notes[0] and "Write .seg.nrrd" in notes[0]
    image = sitk.ReadImage(str(tmp_path / f"m{suffix}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), source.as_stored(labels_of(masks)))
    np.testing.assert_allclose(image.GetSpacing(), (0.3, 0.4, 1), atol=1e-6)


def test_a_video_gets_a_sequence_by_time_and_frames_too_near_in_time_by_number(tmp_path):
    nrrd = pytest.importorskip("nrrd")
    pictures = [a_picture(n) for n in range(4)]
    for times, unit, values in (([0, 40, 100, 120], "s", "0 0.04 0.1 0.12"), ([0, 1, 40, 80], "", "0 1 2 3")):
        source = open_frames(write_video(tmp_path / "x.mp4", pictures, times_ms=times))
        masks = [(frame > 200).astype(np.uint8)[None] for _, frame in source]
        write_tracked(tmp_path / "m.seq.nrrd", masks, source, ["square"])
        voxels, header = nrrd.read(str(tmp_path / "m.seq.nrrd"), index_order="C")
        np.testing.assert_array_equal(voxels[:, 0], np.stack(masks)[:, 0])
        assert (header["units"][3], header["axis 3 index values"]) == (unit, values)


def test_masks_as_pictures_bear_the_names_of_their_frames(tmp_path):
    frames, masks = tmp_path / "frames", tmp_path / "masks"
    frames.mkdir()
    sweep = carotid_sweep(0, side=64)
    files = [frames / f"seq080039_{number:05d}.png" for number in (15, 60, 105, 150)]
    for file, (picture, _) in zip(files, sweep, strict=True):
        Image.fromarray(picture).save(file)
    source = open_frames(frames)
    truth = [mask > 0 for _, mask in sweep]
    write_tracked(masks, [one[None].astype(np.uint8) for one in truth], source, ["vessel"])
    assert sorted(os.listdir(masks)) == [file.name for file in files]
    for file, one in zip(files, truth, strict=True):
        assert one.any()
        np.testing.assert_array_equal(np.asarray(Image.open(masks / file.name)), one)
    with pytest.raises(OutputError, match="not empty"):
        write_tracked(masks, [one[None] for one in truth], source, ["vessel"])


def test_frames_without_names_get_numbers(tmp_path):
    source = a_sequence(tmp_path)
    masks = some_masks(2, 2, source.shape)
    (tmp_path / "m").mkdir()  # empty, so it may be taken
    write_tracked(tmp_path / "m", masks, source, ["a", "b"], numbers=[2, 4])
    assert sorted(os.listdir(tmp_path / "m")) == ["frame_00002.png", "frame_00004.png"]
    found = np.asarray(Image.open(tmp_path / "m" / "frame_00004.png"))
    np.testing.assert_array_equal(found, source.as_stored(labels_of(masks)[1]))


@pytest.mark.parametrize("name", ["m.seq.nrrd", "m.seg.nrrd"])
def test_masks_are_not_held_in_memory(tmp_path, name):
    frame = (240, 320)
    source = FrameSource(tmp_path / "x", "video", VolumeGeometry((frame[1], frame[0], 1)), 100)
    tracemalloc.start()
    write_tracked(tmp_path / name, (np.eye(*frame, dtype=np.uint8)[None] for _ in range(100)), source, ["a"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * frame[0] * frame[1]
    assert int(read_nrrd_sum(tmp_path / name)) == 100 * 240


def read_nrrd_sum(path: Path) -> int:
    nrrd = pytest.importorskip("nrrd")
    return nrrd.read(str(path))[0].sum(dtype=np.int64)


@pytest.mark.slicer
def test_slicer_itself_reads_what_is_written(tmp_path):
    slicer = pytest.importorskip("slicer")
    source = a_sequence(tmp_path)
    masks = some_masks(5, 2, source.shape)
    write_tracked(tmp_path / "m.seq.nrrd", masks, source, ["a", "b"])
    write_tracked(tmp_path / "m.seg.nrrd", masks, source, ["a", "b"])
    scene = slicer.vtkMRMLScene()
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "m")
    storage = slicer.vtkMRMLVolumeSequenceStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / "m.seq.nrrd"))
    assert storage.ReadData(sequence) and sequence.GetNumberOfDataNodes() == 5
    assert [sequence.GetNthIndexValue(n) for n in range(5)] == ["0.0", "0.10", "0.2", "0.4", "0.5"]
    assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("time", "s")
    for n, labels in enumerate(labels_of(masks)):
        node = sequence.GetNthDataNode(n)
        assert node.GetClassName() == "vtkMRMLLabelMapVolumeNode"
        image = node.GetImageData()
        stored = source.as_stored(labels)
        assert image.GetDimensions() == (*stored.shape[::-1], 1)
        found = [[image.GetScalarComponentAsDouble(i, j, 0, 0) for i in range(6)] for j in range(8)]
        np.testing.assert_array_equal(found, stored)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "m")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / "m.seg.nrrd"))
    assert storage.ReadData(segmentation) and segmentation.GetSegmentation().GetNumberOfSegments() == 2
