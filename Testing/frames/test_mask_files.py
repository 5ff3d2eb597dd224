"""What tracking leaves behind: masks come back voxel by voxel, tables are whole rows, videos show the contours."""

from __future__ import annotations

import csv
import errno
import os
import resource
import signal
import subprocess
import sys
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
from frame_cases import LIST_LAST, OBLIQUE, a_picture, coloured, noise, write_nrrd, write_video
from geometry_cases import geometries
from ProxyPromptSegmentLib.errors import GeometryError, OutputError
from ProxyPromptSegmentLib.frames import BadFrame, FrameSource, mask_files, open_frames
from ProxyPromptSegmentLib.frames.mask_files import check_tracked_path, stacked_geometry, write_tracked
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, take_slices
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.reports import overlay
from ProxyPromptSegmentLib.reports.frame_table import TrackTable
from ProxyPromptSegmentLib.reports.overlay import write_overlay
from segmentation_cases import TERMS

RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


def some_masks(count: int, objects: int, shape: tuple[int, int], overlap: bool = False) -> np.ndarray:
    """Random masks ``(T, N, H, W)``."""
    random = np.random.default_rng(count)
    if overlap:
        return random.integers(0, 2, (count, objects, *shape)).astype(np.uint8)
    labels = random.integers(0, objects + 1, (count, *shape))
    return np.stack([labels == n + 1 for n in range(objects)], axis=1).astype(np.uint8)


def a_sequence(tmp_path: Path, sagittal: bool = False) -> FrameSource:
    """Five frames of 8 rows and 6 columns, turned in space."""
    fields = dict(LIST_LAST, space="right-anterior-superior")
    fields["space_directions"] = "(0.3,0,0) (0,0,-0.4) (0,2,0) none"
    fields |= {"labels": '"" "" "" "time"', "units": '"" "" "" "s"'}
    fields |= {"axis_3_index_type": "numeric", "axis_3_index_values": "0.0 0.10 0.2 0.4 0.5"}
    shape = (5, 8, 6, 1) if sagittal else (5, 1, 8, 6)
    return open_frames(write_nrrd(tmp_path / "cine.seq.nrrd", noise(*shape), **fields))


def labels_of(masks: np.ndarray) -> np.ndarray:
    """``(T, H, W)``: later objects win."""
    labels = np.zeros((len(masks), *masks.shape[2:]), np.uint8)
    for n in range(masks.shape[1]):
        labels[masks[:, n] > 0] = n + 1
    return labels


# --- volumes ------------------------------------------------------------------------------------------------


def a_volume(tmp_path: Path, axis: str = "k") -> FrameSource:
    write_volume(tmp_path / "v.nrrd", Volume(noise(*OBLIQUE.shape_kji, dtype="float32", top=999), OBLIQUE))
    return open_frames(tmp_path / "v.nrrd", axis)


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


# --- sequences ----------------------------------------------------------------------------------------------


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


def test_masks_that_do_not_go_with_the_frames_are_refused(tmp_path):
    source = a_sequence(tmp_path)
    masks = some_masks(5, 2, source.shape)
    for wrong, more, told in (
        (masks, {"done": [True] * 4}, "masks of 5 frames, but 4 frames"),
        (masks[:, :1], {}, r"masks of frame 0 have shape \(1, 8, 6\)"),
        (masks[..., 1:], {}, "shape"),
        (masks, {"numbers": [1, 2]}, "numbers of 2"),
        (masks, {"colors": [RED]}, "1 colours"),
        (masks[:0], {}, "0 frames"),
    ):
        with pytest.raises(GeometryError, match=told):
            write_tracked(tmp_path / "m.seq.nrrd", wrong, source, ["a", "b"], **more)
    assert os.listdir(tmp_path) == ["cine.seq.nrrd"]


def test_places_that_cannot_be_written_are_refused_before_the_work(tmp_path):
    source, volume = a_sequence(tmp_path), a_volume(tmp_path)
    for path, of, told in (
        (tmp_path / "m.stl", source, "no supported suffix for a result"),
        (tmp_path / "nowhere" / "m.seq.nrrd", source, "does not exist"),
        (tmp_path / "nowhere" / "m", source, "does not exist"),
        (tmp_path / "m", volume, "name of a folder"),
        (tmp_path / "m.seq.nrrd", volume, "is a volume"),
        (tmp_path, source, "not empty"),
    ):
        with pytest.raises(OutputError, match=told):
            check_tracked_path(path, of)
    for name in ("m.seq.nrrd", "m.seg.nrrd", "m.nii.gz", "m"):
        check_tracked_path(tmp_path / name, source)


@pytest.mark.parametrize("name", ["m.seq.nrrd", "m.seg.nrrd", "m.nii.gz", "m"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("the model")])
def test_masks_that_stop_coming_leave_nothing_half_written(tmp_path, name, error):
    source = a_sequence(tmp_path)

    def masks():
        yield from some_masks(2, 1, source.shape)
        raise error

    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        write_tracked(tmp_path / name, masks(), source, ["a"])
    assert os.listdir(tmp_path) == ["cine.seq.nrrd"]


@pytest.mark.parametrize("name", ["m.seq.nrrd", "m.seg.nrrd", "m"])
def test_a_failing_disk_leaves_the_old_file_and_nothing_half_written(tmp_path, name, monkeypatch):
    source = a_sequence(tmp_path)
    if name != "m":
        (tmp_path / name).write_bytes(b"old result")
    before = sorted(os.listdir(tmp_path))
    calls = []

    def labels(masks: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return labels_of(masks[None])[0]

    monkeypatch.setattr(mask_files, "_labels", labels)
    with pytest.raises(OutputError, match="could not be written: No space left"):
        write_tracked(tmp_path / name, some_masks(5, 1, source.shape), source, ["a"])
    assert sorted(os.listdir(tmp_path)) == before
    assert name == "m" or (tmp_path / name).read_bytes() == b"old result"


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


# --- table --------------------------------------------------------------------------------------------------


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_has_a_row_for_each_frame_and_object(tmp_path):
    path = tmp_path / "t.csv"
    with TrackTable(path, (0.5, 0.4)) as table:
        table.add(0, 'lobe, "left"', 12, 0.04, 0.91237, 1.0)
        table.add(1, "ü", None, float("nan"), state="bad", note="its data\nare damaged")
        assert not path.exists()
    first, second = rows_of(path)
    assert first == {
        "frame": "0", "time_s": "0.04", "object": 'lobe, "left"', "area_px": "12", "area_mm2": "2.4",
        "confidence": "0.9124", "agreement": "1", "state": "ok", "note": "",
    }  # fmt: skip
    assert (second["time_s"], second["area_px"], second["area_mm2"]) == ("", "", "")
    assert (second["object"], second["state"], second["note"]) == ("ü", "bad", "its data are damaged")
    with TrackTable(path) as table:
        table.add(0, "a", 100)
        with pytest.raises(ValueError, match="not done"):
            table.add(1, "a", 1, state="perfect")
    assert [(row["area_px"], row["area_mm2"]) for row in rows_of(path)] == [("100", "")]
    assert os.listdir(tmp_path) == ["t.csv"]


def test_after_ctrl_c_the_rows_until_then_are_in_the_table(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with TrackTable(tmp_path / "t.csv") as table:
            table.add(0, "a", 1)
            table.add(1, "a", 2)
            raise KeyboardInterrupt
    assert [row["area_px"] for row in rows_of(tmp_path / "t.csv")] == ["1", "2"]
    assert os.listdir(tmp_path) == ["t.csv"]


def test_after_a_failure_the_older_table_stays(tmp_path):
    (tmp_path / "t.csv").write_text("older")
    with pytest.raises(RuntimeError, match="the model"):
        with TrackTable(tmp_path / "t.csv") as table:
            table.add(0, "a", 1)
            raise RuntimeError("the model")
    assert (tmp_path / "t.csv").read_text() == "older" and os.listdir(tmp_path) == ["t.csv"]
    with pytest.raises(OutputError, match="does not exist"):
        with TrackTable(tmp_path / "nowhere" / "t.csv"):
            pass


def test_a_killed_program_leaves_whole_rows_beside(tmp_path):
    code = (
        "import os, signal, sys; from ProxyPromptSegmentLib.reports.frame_table import TrackTable\n"
        "with TrackTable(sys.argv[1]) as table:\n"
        "    for n in range(50): table.add(n, 'a', n)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.csv")], cwd=root)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".t.partial") and [row["area_px"] for row in rows_of(left)] == [
        str(n) for n in range(50)
    ]


def test_a_table_on_a_full_disk_is_told_and_removed(tmp_path):
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # writes beyond it fail, as on a full disk
    try:
        with pytest.raises(OutputError, match="could not be written"):
            with TrackTable(tmp_path / "t.csv") as table:
                for n in range(1000):
                    table.add(n, "a", n)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert n < 999 and os.listdir(tmp_path) == []


# --- overlay ------------------------------------------------------------------------------------------------


def a_box(shape: tuple[int, int], *where: int) -> np.ndarray:
    top, left, bottom, right = where
    mask = np.zeros((1, *shape), np.uint8)
    mask[0, top:bottom, left:right] = 1
    return mask


def decoded(path: Path) -> np.ndarray:
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def test_a_video_shows_every_frame_with_contours_in_the_colours(tmp_path):
    pytest.importorskip("av")
    shape = (301, 260)  # an odd number of rows is padded
    frames = [(n, np.full(shape, 90, np.uint8)) for n in range(12)]
    boxes = [
        np.concatenate([a_box(shape, 40, 40, 90, 90), a_box(shape, 150, 100 + n, 200, 150 + n)]) for n in range(12)
    ]
    assert write_overlay(tmp_path / "o.mp4", frames, iter([*boxes[:11], None]), [RED, GREEN], 12.5) == []
    found = decoded(tmp_path / "o.mp4")
    assert found.shape == (12, 302, 260, 3)
    assert np.abs(found[:, 100:140, 10:250] - 90).max() < 12  # far from all contours
    for n in range(11):
        assert found[n, 41, 60] @ [1, -1, 0] > 60  # red dominates on the upper border of the first box
        assert found[n, 175, 101 + n] @ [-1, 1, 0] > 60  # green on the left border of the second
        assert np.abs(found[n, 60:70, 60:70] - 90).max() < 16  # the inside stays as it was
    assert np.abs(found[11, 41, 60] - 90).max() < 16  # not computed: no contour
    source = open_frames(tmp_path / "o.mp4")
    assert sum(1 for _ in source) == 12
    np.testing.assert_allclose(source.times_s, np.arange(12) / 12.5, atol=1e-3)


def test_bad_frames_are_shown_as_such_and_the_video_ends_with_the_masks(tmp_path):
    pytest.importorskip("av")
    shape = (256, 256)
    grey = np.full(shape, 120, np.uint8)
    frames = [(0, BadFrame(0, "cut")), (1, grey), (2, BadFrame(2, "cut")), (3, grey), (4, grey)]
    masks = [None, a_box(shape, 9, 9, 99, 99), None, None]
    write_overlay(tmp_path / "o.mp4", frames, masks, [RED], 10)
    found = decoded(tmp_path / "o.mp4")
    assert [int(round(one[110:200].mean(), -1)) for one in found] == [0, 120, 0, 120]
    assert found[0, 235:].max() > 150  # the reason is written there
    with pytest.raises(GeometryError, match="more masks than frames"):
        write_overlay(tmp_path / "p.mp4", frames, [None] * 6, [RED], 10)
    with pytest.raises(GeometryError, match=r"frame 1 have shape \(1, 5, 5\)"):
        write_overlay(tmp_path / "p.mp4", frames, [None, np.zeros((1, 5, 5))], [RED], 10)
    with pytest.raises(OutputError, match="no frame"):
        write_overlay(tmp_path / "p.mp4", [], [], [RED], 10)
    assert os.listdir(tmp_path) == ["o.mp4"]


def test_small_and_anisotropic_frames_are_enlarged_with_their_proportions(tmp_path):
    pytest.importorskip("av")
    frames = [(0, a_picture(0))]
    write_overlay(tmp_path / "o.mp4", frames, [None], [RED], 10)
    assert decoded(tmp_path / "o.mp4").shape == (1, 192, 256, 3)
    write_overlay(tmp_path / "o.mp4", frames, [None], [RED], 10, spacing_mm=(4.0, 1.0))
    assert decoded(tmp_path / "o.mp4").shape == (1, 256, 86, 3)  # 192 x 64 mm; 85 columns are made even


def test_a_gif_shows_the_colours_exactly(tmp_path):
    shape = (256, 300)
    frames = [(n, np.full(shape, 20 + 50 * n, np.uint8)) for n in range(4)]
    boxes = [a_box(shape, 40, 40 + 9 * n, 90, 90) for n in range(4)]
    assert write_overlay(tmp_path / "o.gif", frames, boxes, [RED], 5) == []
    with Image.open(tmp_path / "o.gif") as image:
        assert image.n_frames == 4 and image.size == (300, 256) and image.info["duration"] == 200
        for n in range(4):
            image.seek(n)
            picture = np.asarray(image.convert("RGB")).astype(int)
            assert tuple(picture[60, 41 + 9 * n]) == (255, 0, 0)
            assert np.abs(picture[120:200] - (20 + 50 * n)).max() <= 3  # of 256 levels some are spared


def test_a_gif_of_colour_frames(tmp_path):
    picture = coloured(a_picture(0, (256, 256)))
    write_overlay(tmp_path / "o.gif", [(0, picture), (1, picture[::-1])], [None] * 2, [RED], 5)
    with Image.open(tmp_path / "o.gif") as image:
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - picture)[:230].mean() < 12


def test_of_very_many_frames_a_gif_shows_evenly_spread_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(overlay, "MOST_GIF_FRAMES", 20)
    frames = ((n, np.full((64, 64), 5 * n, np.uint8)) for n in range(50))
    notes = write_overlay(tmp_path / "o.gif", frames, (None for _ in range(50)), [RED], 30)
    with Image.open(tmp_path / "o.gif") as image:
        assert image.n_frames == 13 and image.info["duration"] == 130
        image.seek(3)
        assert abs(int(np.asarray(image.convert("L"))[100, 100]) - 60) <= 3
    assert notes == ["o.gif shows one of every 4 frames (13 of 50); write .mp4 for all of them."]


def test_overlays_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    frames = [(0, np.zeros((64, 64), np.uint8))]
    with pytest.raises(OutputError, match="no supported suffix"):
        write_overlay(tmp_path / "o.mov", frames, [None], [RED], 10)
    with pytest.raises(OutputError, match="0 frames per second"):
        write_overlay(tmp_path / "o.mp4", frames, [None], [RED], 0)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(OutputError, match="needs the Python package av.* a .gif can") as caught:
        write_overlay(tmp_path / "o.mp4", frames, [None], [RED], 10)
    assert caught.value.remedy == Remedy(kind=RemedyKind.INSTALL_PACKAGE, package="av")
    assert write_overlay(tmp_path / "o.gif", frames, [None], [RED], 10) == []
    assert os.listdir(tmp_path) == ["o.gif"]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_an_overlay_on_a_full_disk_leaves_nothing(tmp_path, suffix):
    if suffix == ".mp4":
        pytest.importorskip("av")
    frames = [(n, np.random.default_rng(n).integers(0, 256, (256, 256)).astype(np.uint8)) for n in range(8)]
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OutputError, match="could not be written"):
            write_overlay(tmp_path / f"o{suffix}", frames, [None] * 8, [RED], 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == []


def test_a_video_that_lost_frames_on_the_disk_is_caught(tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    shorter = write_video(tmp_path / "shorter.mp4", [a_picture(n) for n in range(4)])
    real = av.open
    monkeypatch.setattr(av, "open", lambda file, *more, **named: real(file if more else str(shorter), *more, **named))
    with pytest.raises(OutputError, match="4 of 5 frames are in the file"):
        write_overlay(tmp_path / "o.mp4", [(n, a_picture(n)) for n in range(5)], [None] * 5, [RED], 10)
    assert os.listdir(tmp_path) == ["shorter.mp4"]


def test_an_interrupted_overlay_leaves_nothing(tmp_path):
    pytest.importorskip("av")

    def masks():
        yield None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_overlay(tmp_path / "o.mp4", [(n, a_picture(n)) for n in range(5)], masks(), [RED], 10)
    assert os.listdir(tmp_path) == []
