"""Points, boxes and masks on the command line: without a support, as corrections, and what is wrong with them."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")

import engine_doubles  # noqa: F401 - skips where a package is missing
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands.hand_options import box_of, point_of
from ProxyPromptSegmentLib.errors import EXIT_OK, UsageError
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, read_segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import write_volume
from ProxyPromptSegmentLib.inference.by_hand.prompts import VoxelBox, VoxelPoint

SIZE = (8, 48, 48)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("by_hand")
    for name, seed in (("old", 11), ("new", 12)):
        volume, marks = pelvis_phantom(seed, SIZE)
        write_volume(folder / f"{name}.nrrd", volume)
        write_segmentation(folder / f"{name}.seg.nrrd", marks)
    organ = pelvis_phantom(12, SIZE)[1].segments[0].mask
    middle = int(np.argmax(organ.sum(axis=(1, 2))))
    rows, columns = np.nonzero(organ[middle])
    return folder, (round(columns.mean()), round(rows.mean()), middle)


def segment(files, *words, output):
    target = ["--target", files[0] / "new.nrrd", "--output", output, "--device", "cpu"]
    return main(["segment", *map(str, [*target, *words])])


def test_a_click_alone_segments_its_voxel(files, tmp_path, capsys):
    i, j, k = files[1]
    output, report = tmp_path / "out.seg.nrrd", tmp_path / "out.json"
    assert segment(files, "--point", f"gland={i},{j},{k}", "--report", report, output=output) == EXIT_OK
    found = read_segmentation(output)
    assert found.names == ["gland"]
    assert found.segments[0].mask[k, j, i] == 1
    assert np.flatnonzero(found.segments[0].mask.any(axis=(1, 2))).tolist() == [k]
    said = json.loads(report.read_text())
    assert said["settings"]["by_hand"]["points"] == [f"gland={i},{j},{k}"]
    assert said["slices_done"] == [k]
    assert "gland" in capsys.readouterr().out


def test_a_click_corrects_what_the_support_prompts(files, tmp_path):
    folder, (i, j, k) = files
    support = ["--support", folder / "old.nrrd", folder / "old.seg.nrrd", "--no-register"]
    plain, corrected = tmp_path / "plain.seg.nrrd", tmp_path / "corrected.seg.nrrd"
    assert segment(files, *support, output=plain) == EXIT_OK
    mask = read_segmentation(plain).segments[0].mask
    # A click outside of it, where something is drawn.
    words = [*support, "--point", f"{i},{j},{k},-"]
    assert segment(files, *words, output=corrected) == EXIT_OK
    found = read_segmentation(corrected).segments[0].mask
    assert mask[k, j, i] == 1 and found[k, j, i] == 0
    assert read_segmentation(corrected).names == read_segmentation(plain).names


def test_a_box_and_a_mask_file_prompt_the_slices_that_they_span(files, tmp_path):
    folder, (i, j, k) = files
    words = ["--box", f"gland={i - 8},{j - 8},{k - 1},{i + 8},{j + 8},{k}"]
    assert segment(files, *words, output=tmp_path / "box.seg.nrrd") == EXIT_OK
    found = read_segmentation(tmp_path / "box.seg.nrrd").segments[0].mask
    assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == [k - 1, k]
    volume, _ = pelvis_phantom(12, SIZE)
    rough = np.zeros(SIZE, np.uint8)
    rough[k, j - 6 : j + 6, i - 6 : i + 6] = 1
    write_segmentation(tmp_path / "rough.seg.nrrd", Segmentation([Segment("gland", rough)], volume.geometry))
    assert segment(files, "--mask", tmp_path / "rough.seg.nrrd", output=tmp_path / "mask.seg.nrrd") == EXIT_OK
    found = read_segmentation(tmp_path / "mask.seg.nrrd")
    assert found.names == ["gland"] and found.segments[0].mask[k].any()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--point", "a,b,c"], "--point is 'a,b,c'; write [OBJECT=]I,J,K[,+|-], such as"),
        (["--point", "1,2,3,4"], "--point is '1,2,3,4'"),
        (["--point", "1,2,nan"], "--point is '1,2,nan'"),
        (["--point", "5,5,99"], "lies outside of the image: k is 99, the image has k from 0 to 7"),
        (["--point", "x=-3,5,2"], "lies outside of the image: i is -3"),
        (["--point", "5,5,2,-"], "only points outside of it are given"),
        (["--box", "1,2,3"], "--box is '1,2,3'; write [OBJECT=]I,J,K,I,J,K, its lowest voxel first"),
        (["--box", "30,5,2,10,20,2"], "runs backwards along i, from 30 to 10"),
        (["--point", "5,5,2", "--slices", "3:4"], "is not among the slices to segment"),
        (["--point", "5,5,2", "--object", "x"], "--object chooses segments of a support"),
        (["--mask", "missing.seg.nrrd"], "missing.seg.nrrd does not exist"),
        ([], "can also be shown it with --point or --box"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_allowed(files, tmp_path, words, message, capsys):
    assert segment(files, *words, output=tmp_path / "out.seg.nrrd") not in (EXIT_OK, 1)
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_an_unknown_object_is_refused_with_those_of_the_support(files, tmp_path, capsys):
    folder = files[0]
    support = ["--support", folder / "old.nrrd", folder / "old.seg.nrrd"]
    segment(files, *support, "--point", "liver=5,5,2", output=tmp_path / "out.seg.nrrd")
    assert "there is no object 'liver' to be marked by hand; the objects are prostate" in capsys.readouterr().err


def test_texts_are_points_and_boxes():
    assert point_of("a=b=1,2.5,3") == VoxelPoint((1, 2.5, 3), True, "a=b")
    assert point_of(" 1 , 2 , 3 , - ") == VoxelPoint((1, 2, 3), False)
    assert point_of("x=4,5") == VoxelPoint((4, 5, 0), True, "x")
    assert box_of("1,2,3,4") == VoxelBox((1, 2, 0), (3, 4, 0))
    assert box_of("o=1,2,3,4,5,6") == VoxelBox((1, 2, 3), (4, 5, 6), "o")
    assert str(point_of("x=4,5,6,-")) == "x=4,5,6,-" and str(box_of("1,2,3,4,5,6")) == "1,2,3,4,5,6"
    with pytest.raises(UsageError, match="--box is 'o='"):
        box_of("o=")
