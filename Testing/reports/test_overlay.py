"""Overlays: videos and pictures with contours show all frames in the right colours, or nothing is left behind."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frame_cases import a_picture, coloured, write_video
from ProxyPromptSegmentLib.errors import GeometryError, OutputError
from ProxyPromptSegmentLib.frames import BadFrame, open_frames
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.reports import overlay
from ProxyPromptSegmentLib.reports.overlay import write_overlay

RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


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
