"""Reading videos: whole, damaged, cut short, and what is none."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frame_cases import a_picture, bad_ones, coloured, jpeg, noise, read_all, write_jpegs_as_video, write_video
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.frames import open_frames
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind

# --- video --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov"])
def test_a_grey_video_gives_its_frames_in_order_as_grey(tmp_path, suffix):
    pictures = [a_picture(n) for n in range(20)]
    source = open_frames(write_video(tmp_path / f"Carotid 1{suffix}", pictures))
    frames = read_all(source)
    assert (source.kind, source.name, source.shape, source.count, source.direct) == (
        "video",
        "Carotid 1",
        (48, 64),
        20,
        False,
    )
    assert not source.has_spacing and source.window() == (0, 255) and source.geometry.size_ijk == (64, 48, 1)
    for frame, picture in zip(frames, pictures, strict=True):
        assert frame.shape == (48, 64) and frame.dtype == np.uint8
        assert np.abs(frame.astype(int) - picture).mean() < 2  # lossy
    assert np.abs(frames[5].astype(int) - pictures[6]).mean() > 3
    np.testing.assert_allclose(source.times_s, np.arange(20) / 25, atol=1e-3)
    np.testing.assert_array_equal(source.frame(7), frames[7])
    with pytest.raises(IndexError, match="0 to 19"):
        source.frame(20)


def test_a_video_without_loss_is_read_pixel_by_pixel_and_keeps_its_colours(tmp_path):
    pictures = [coloured(a_picture(n)) for n in range(6)]
    source = open_frames(write_video(tmp_path / "x.avi", pictures, "ffv1", "bgr0"))
    assert source.rgb
    np.testing.assert_array_equal(np.stack(read_all(source)), np.stack(pictures))
    np.testing.assert_array_equal(np.stack(read_all(source)), np.stack(pictures))  # and anew


def test_colour_that_begins_late_is_noticed(tmp_path):
    pictures = [a_picture(n) for n in range(30)] + [coloured(a_picture(n)) for n in range(30)]
    assert open_frames(write_video(tmp_path / "doppler.mp4", pictures)).rgb


def test_uneven_times_are_those_of_the_file(tmp_path):
    times = [0, 40, 50, 200, 240, 500, 503, 640, 700, 1000]
    source = open_frames(write_video(tmp_path / "x.mp4", [a_picture(n) for n in range(10)], times_ms=times))
    assert source.times_s == []
    read_all(source)
    np.testing.assert_allclose(source.times_s, np.array(times) / 1000, atol=1e-6)


def spoil_packet(path: Path, number: int, part: float) -> None:
    """Writes noise over the last part of a video's packet."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        start, size = [(p.pos, p.size) for p in container.demux(video=0) if p.size][number]
    spoilt, data = int(size * part), bytearray(path.read_bytes())
    data[start + size - spoilt : start + size] = noise(spoilt).tobytes()
    path.write_bytes(data)


def test_a_damaged_packet_costs_one_frame_and_reading_goes_on(tmp_path):
    path = write_video(tmp_path / "x.mp4", [a_picture(n) for n in range(20)])
    whole = read_all(open_frames(path))
    spoil_packet(path, 9, 1.0)
    source = open_frames(path)
    frames = read_all(source)
    assert bad_ones(frames) == [9] and frames[9].reason == "its data are damaged"
    assert len(frames) == source.count == len(source.times_s) == 20
    np.testing.assert_allclose(source.times_s, np.arange(20) / 25, atol=1e-3)
    np.testing.assert_array_equal(frames[8], whole[8])
    np.testing.assert_array_equal(frames[12], whole[12])  # a whole picture begins there


def test_a_frame_that_the_decoder_has_mended_is_bad_too(tmp_path):
    path = write_video(tmp_path / "x.mp4", [noise(48, 64) // 2 + n for n in range(20)])
    spoil_packet(path, 9, 0.5)
    frames = read_all(open_frames(path))
    assert 9 in bad_ones(frames) and len(frames) == 20 and not bad_ones(frames[:9] + frames[12:])


def test_pictures_of_another_size_and_nonsense_within_a_video_are_bad_frames(tmp_path):
    blocks = [jpeg(a_picture(n)) for n in range(6)]
    blocks[2], blocks[4] = jpeg(a_picture(2, (40, 64))), b"nonsense" * 30
    frames = read_all(open_frames(write_jpegs_as_video(tmp_path / "x.avi", blocks)))
    assert bad_ones(frames) == [2, 4] and "64x40 pixels instead of 64x48" in frames[2].reason


def test_a_video_that_is_cut_short_says_so(tmp_path):
    path = write_video(tmp_path / "x.mkv", [a_picture(n) for n in range(60)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_frames(path)
    frames = read_all(source)
    assert 5 < len(frames) < 55 and source.count == len(frames)
    assert len(source.notes) == 1 and "should have 2.4 s but ends after" in source.notes[0]
    assert not open_frames(write_video(tmp_path / "whole.mkv", [a_picture(0)] * 30)).notes


def test_a_video_is_not_held_in_memory(tmp_path):
    path = write_video(tmp_path / "x.mp4", [a_picture(n, (240, 320)) for n in range(80)])
    source = open_frames(path)
    tracemalloc.start()
    assert sum(1 for _ in source) == 80
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 240 * 320 * 3  # a few working copies of one frame in 32 bits, of 80


def test_rotation_is_told_and_not_applied(tmp_path):
    path = write_video(tmp_path / "x.mp4", [a_picture(n) for n in range(3)])
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    source = open_frames(path)
    assert source.shape == (48, 64) and "by" in source.notes[0] and "90 degrees" in source.notes[0]


def test_pixels_that_are_not_square_keep_their_ratio(tmp_path):
    path = write_video(tmp_path / "x.mkv", [a_picture(n) for n in range(3)], sample_aspect_ratio=Fraction(3, 2))
    source = open_frames(path)
    assert source.spacing_mm == (1.0, 1.5) and not source.has_spacing


def test_without_av_a_video_is_refused_with_two_ways_out_and_the_rest_works(tmp_path, monkeypatch):
    path = tmp_path / "x.mp4"
    path.write_bytes(b"whatever")
    Image.fromarray(a_picture(0)).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match="needs the Python package av.* a folder with the frames") as caught:
        open_frames(path)
    assert caught.value.remedy == Remedy(kind=RemedyKind.INSTALL_PACKAGE, package="av")
    assert len(read_all(open_frames(tmp_path))) == 1


def test_what_is_no_video_is_refused(tmp_path):
    av = pytest.importorskip("av")
    (tmp_path / "text.mp4").write_text("not a video\n" * 99)
    (tmp_path / "empty.mp4").touch()
    write_video(tmp_path / "x.mp4", [a_picture(0)] * 9)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "x.mp4").read_bytes()[:999])
    write_jpegs_as_video(tmp_path / "bad.avi", [b"nonsense" * 30] * 5)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    for name, told in {
        "text.mp4": "cannot be read as a video", "empty.mp4": "0 bytes", "cut.mp4": "cannot be read as a video",
        "bad.avi": "No frame of bad.avi", "sound.mp4": "sound but no pictures", "nowhere.mp4": "does not exist",
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=told):
            open_frames(tmp_path / name)
