"""Reading frames: videos, folders, clips, sequences and volumes; whole, damaged, and what is no such thing."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_geometry import geometries

from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.frames import BadFrame, FrameSource, open_frames
from ProxyPromptSegmentLib.geometry import VolumeGeometry, take_slices
from ProxyPromptSegmentLib.preprocess import intensity_window
from ProxyPromptSegmentLib.volumes import Volume, write_volume

OBLIQUE = VolumeGeometry((7, 6, 5), (0.5, 0.9, 3.1), (-12.3, 33.3, -7), [[0, 0, 1], [0.8, 0.6, 0], [-0.6, 0.8, 0]])
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def a_picture(n: int, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A grey ramp on which a bright square moves to the right by 2 pixels a frame."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    picture = (rows + columns).astype(np.uint8)
    picture[10:20, 2 * n % 40 : 2 * n % 40 + 12] = 240
    return picture


def coloured(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey, grey // 2, 255 - grey], axis=-1)


def write_video(path: Path, pictures, codec: str = "mpeg4", pix_fmt: str = "yuv420p", times_ms=None, **stream_fields):
    """Encodes pictures ``(H, W[, 3])``, 25 a second or at the given times."""
    av = pytest.importorskip("av")
    pictures = [np.repeat(p[..., None], 3, axis=2) if p.ndim == 2 else p for p in pictures]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pix_fmt
        stream.bit_rate = 4_000_000
        for name, value in stream_fields.items():
            setattr(stream.codec_context, name, value)
        if times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        for n, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (times_ms[n], Fraction(1, 1000)) if times_ms else (n, Fraction(1, 25))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_jpegs_as_video(path: Path, blocks: list[bytes], shape: tuple[int, int] = (48, 64)) -> Path:
    """An AVI of given JPEGs, whatever is in them, 10 a second."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.height, stream.width, stream.pix_fmt = *shape, "yuvj444p"
        for n, block in enumerate(blocks):
            packet = av.Packet(block)
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            packet.pts = packet.dts = n
            container.mux(packet)
    return path


def jpeg(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_clip(
    path: Path,
    frames: np.ndarray,
    spacing: tuple[float, float] | None = None,
    regions: tuple[tuple[int, float, float], ...] = (),
    sop: str = "1.2.840.10008.5.1.4.1.1.3.1",
    timing: tuple[int, int, str, str] = (0x18, 0x1063, "DS", "40"),
) -> Path:
    """A DICOM file of several frames ``(T, H, W[, 3])``, explicit little endian, written byte by byte.

    Args:
        regions: Units (3 is cm), Physical Delta X and Y of ultrasound regions.
        timing: Group, element, kind and text of an attribute, by default Frame Time 40 ms.
    """

    def element(group: int, number: int, kind: str, value: bytes | str) -> bytes:
        data = value.encode("ascii") if isinstance(value, str) else value
        data += (b"\0" if kind in ("UI", "OB") else b" ") * (len(data) % 2)
        if kind in ("OB", "OW", "SQ"):
            return struct.pack("<HH2sHI", group, number, kind.encode(), 0, len(data)) + data
        return struct.pack("<HH2sH", group, number, kind.encode(), len(data)) + data

    def short(value: int) -> bytes:
        return struct.pack("<H", value)

    items = b""
    for units, dx, dy in regions:
        region = element(0x18, 0x6024, "US", short(units)) + element(0x18, 0x6026, "US", short(units))
        region += element(0x18, 0x602C, "FD", struct.pack("<d", dx)) + element(
            0x18, 0x602E, "FD", struct.pack("<d", dy)
        )
        items += struct.pack("<HHI", 0xFFFE, 0xE000, len(region)) + region
    bits, rgb = frames.dtype.itemsize * 8, frames.ndim == 4
    uid = "1.2.826.0.1.3680043.2.1125.77"
    fields = [
        (0x08, 0x16, "UI", sop), (0x08, 0x18, "UI", f"{uid}.1"), (0x08, 0x60, "CS", "US"), timing,
        (0x20, 0x0D, "UI", f"{uid}.2"), (0x20, 0x0E, "UI", f"{uid}.{path.stem.__hash__() % 9973 + 3}"),
        (0x28, 0x02, "US", short(3 if rgb else 1)), (0x28, 0x04, "CS", "RGB" if rgb else "MONOCHROME2"),
        (0x28, 0x08, "IS", str(len(frames))), (0x28, 0x09, "AT", struct.pack("<HH", 0x18, 0x1063)),
        (0x28, 0x10, "US", short(frames.shape[1])), (0x28, 0x11, "US", short(frames.shape[2])),
        (0x28, 0x100, "US", short(bits)), (0x28, 0x101, "US", short(bits)), (0x28, 0x102, "US", short(bits - 1)),
        (0x28, 0x103, "US", short(0)), (0x7FE0, 0x10, "OW" if bits == 16 else "OB", frames.tobytes()),
    ]  # fmt: skip
    fields += [(0x28, 0x06, "US", short(0))] if rgb else []
    fields += [(0x28, 0x30, "DS", f"{spacing[0]}\\{spacing[1]}")] if spacing else []
    fields += [(0x18, 0x6011, "SQ", items)] if items else []
    meta = element(2, 1, "OB", b"\0\1") + element(2, 2, "UI", sop) + element(2, 3, "UI", f"{uid}.1")
    meta += element(2, 0x10, "UI", "1.2.840.10008.1.2.1") + element(2, 0x12, "UI", uid)
    body = b"".join(element(*field) for field in sorted(fields, key=lambda field: field[:2]))
    head = b"\0" * 128 + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta)))
    path.write_bytes(head + meta + body)
    return path


def write_nrrd(path: Path, voxels: np.ndarray, encoding: str = "raw", **fields: str) -> Path:
    """A NRRD file of voxels with the fastest axis last; fields as they stand in the header."""
    kind = {"uint8": "uchar", "uint16": "ushort", "int16": "short", "float32": "float"}[voxels.dtype.name]
    lines = ["NRRD0005", f"type: {kind}", f"dimension: {voxels.ndim}"]
    lines += [f"{key.replace('_', ' ')}: {value}" for key, value in fields.items() if "index" not in key]
    lines += [f"sizes: {' '.join(str(n) for n in reversed(voxels.shape))}", f"encoding: {encoding}"]
    lines += [f"{key.replace('_', ' ')}:={value}" for key, value in fields.items() if "index" in key]
    data = voxels.tobytes()
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + (gzip.compress(data, 1) if encoding == "gzip" else data))
    return path


LIST_LAST = {
    "space": "left-posterior-superior",
    "space_directions": "(0.3,0,0) (0,0.4,0) (0,0,1) none",
    "space_origin": "(1,2,3)",
    "kinds": "domain domain domain list",
}


def noise(*shape: int, dtype: str = "uint8", top: int = 256) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, top, shape).astype(dtype)


def read_all(source: FrameSource) -> list:
    """All frames; their numbers must be in order."""
    found = list(source)
    assert [n for n, _ in found] == list(range(len(found)))
    return [frame for _, frame in found]


def bad_ones(frames: list) -> list[int]:
    return [frame.index for frame in frames if isinstance(frame, BadFrame)]


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
    assert len(source.notes) == 1 and "should have 2.4 s and ends after" in source.notes[0]
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
    with pytest.raises(InputError, match="pip install av.*or give a folder"):
        open_frames(path)
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
        "text.mp4": "not a video", "empty.mp4": "0 bytes", "cut.mp4": "not a video", "bad.avi": "No frame of bad.avi",
        "sound.mp4": "sound but no pictures", "nowhere.mp4": "does not exist",
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=told):
            open_frames(tmp_path / name)


# --- folders ------------------------------------------------------------------------------------------------


def test_pictures_come_in_the_order_of_their_numbers(tmp_path):
    pictures = {name: noise(20, 30) + n for n, name in enumerate(["frame2.png", "frame10.png", "Frame1.bmp", "x.tif"])}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / name)
    (tmp_path / "._frame0.png").write_bytes(b"what another system leaves")
    (tmp_path / "notes.txt").write_text("not a frame")
    source = open_frames(tmp_path)
    assert source.labels == ["Frame1", "frame2", "frame10", "x"] and (source.kind, source.count) == ("folder", 4)
    for frame, name in zip(read_all(source), ["Frame1.bmp", "frame2.png", "frame10.png", "x.tif"], strict=True):
        np.testing.assert_array_equal(frame, pictures[name])
    assert source.window() == (0, 255) and source.times_s is None and not source.has_spacing


def test_pictures_that_differ_or_are_damaged_are_bad_frames(tmp_path):
    for n in range(6):
        Image.fromarray(a_picture(n)).save(tmp_path / f"{n}.jpg", quality=90)
    Image.fromarray(a_picture(1, (48, 60))).save(tmp_path / "2.jpg")
    for name in ("0.jpg", "4.jpg"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-300])
    Image.fromarray(a_picture(6)).save(tmp_path / "6.bmp")
    (tmp_path / "6.bmp").write_bytes((tmp_path / "6.bmp").read_bytes()[:-300])
    (tmp_path / "7.png").write_text("no picture")
    Image.fromarray(a_picture(8).astype(np.uint16) * 200).save(tmp_path / "8.png")
    frames = read_all(open_frames(tmp_path))
    assert bad_ones(frames) == [0, 2, 4, 6, 7, 8]
    assert frames[2].reason == "it has 60x48 pixels instead of 64x48"
    assert frames[4].reason == "4.jpg is cut short"
    assert "uint16 instead of uint8" in frames[8].reason
    assert frames[1].shape == (48, 64)


def test_transparency_is_dropped_and_16_bits_are_kept(tmp_path):
    (tmp_path / "alpha").mkdir()
    (tmp_path / "deep").mkdir()
    picture = noise(20, 30, 4)
    Image.fromarray(picture, "RGBA").save(tmp_path / "alpha" / "1.png")
    Image.merge("LA", [Image.fromarray(picture[..., 0]), Image.fromarray(picture[..., 3])]).save(
        tmp_path / "alpha" / "2.png"
    )
    colour, grey = read_all(open_frames(tmp_path / "alpha"))
    np.testing.assert_array_equal(colour, picture[..., :3])
    np.testing.assert_array_equal(grey, np.repeat(picture[..., :1], 3, axis=-1))  # all frames have one form
    deep = noise(3, 20, 30, dtype="uint16", top=5000)
    for n, one in enumerate(deep):
        Image.fromarray(one).save(tmp_path / "deep" / f"{n}.png")
    source = open_frames(tmp_path / "deep")
    np.testing.assert_array_equal(np.stack(read_all(source)), deep)
    assert source.frame(0).dtype == np.float32 and source.window() == intensity_window(deep)


def test_grey_pictures_stored_as_colours_become_grey(tmp_path):
    picture = noise(20, 30)
    Image.fromarray(np.repeat(picture[..., None], 3, axis=2)).save(tmp_path / "1.png")
    Image.fromarray(picture).save(tmp_path / "2.png")
    source = open_frames(tmp_path)
    assert not source.rgb
    for frame in read_all(source):
        np.testing.assert_array_equal(frame, picture)


def test_folders_without_usable_frames_are_refused(tmp_path):
    for name in ("empty", "bad", "both"):
        (tmp_path / name).mkdir()
    (tmp_path / "empty" / "a.txt").write_text("x")
    for n in range(3):
        (tmp_path / "bad" / f"{n}.png").write_text("x")
    Image.fromarray(a_picture(0)).save(tmp_path / "both" / "a.png")
    write_clip(tmp_path / "both" / "b.dcm", noise(3, 8, 9))
    for name, told in {
        "empty": "neither pictures",
        "bad": "none of the 3 pictures",
        "both": "1 pictures and 1 DICOM",
    }.items():
        with pytest.raises(InputError, match=told):
            open_frames(tmp_path / name)


def test_real_ultrasound_frames_are_read_as_they_are(shared_data, tmp_path):
    files = sorted((shared_data / "ccaus_video" / "images").glob("seq080039_*.png"))[:12]
    for file in files:
        shutil.copy(file, tmp_path)
    source = open_frames(tmp_path)
    frames = read_all(source)
    assert len(frames) == 12 and source.shape == np.asarray(Image.open(files[0])).shape
    for frame, file in zip(frames, files, strict=True):
        np.testing.assert_array_equal(frame, np.asarray(Image.open(file)))


# --- DICOM --------------------------------------------------------------------------------------------------


def test_a_grey_clip_has_its_pixel_spacing_and_frame_time(tmp_path):
    frames = noise(7, 40, 50)
    source = open_frames(write_clip(tmp_path / "IM_0001", frames, spacing=(0.3, 0.2)))
    assert (source.kind, source.count, source.shape, source.spacing_mm) == ("dicom-cine", 7, (40, 50), (0.3, 0.2))
    assert source.has_spacing and source.window() == (0, 255)
    np.testing.assert_allclose(source.times_s, np.arange(7) * 0.04)
    np.testing.assert_array_equal(np.stack(read_all(source)), frames)
    np.testing.assert_array_equal(source.frame(5), frames[5])


@pytest.mark.parametrize(
    ("regions", "spacing"),
    [
        (((3, 0.02, 0.03),), (0.3, 0.2)),
        (((3, 0.02, -0.03), (4, 7.0, 9.0)), (0.3, 0.2)),  # the second one is a Doppler trace
        (((3, 0.02, 0.03), (3, 0.05, 0.05)), None),  # two pictures of different scale
        ((), None),
    ],
)
def test_a_colour_clip_has_the_scale_of_its_ultrasound_region(tmp_path, regions, spacing):
    frames = noise(4, 30, 20, 3)
    source = open_frames(write_clip(tmp_path / "x.dcm", frames, regions=regions))
    np.testing.assert_array_equal(np.stack(read_all(source)), frames)
    assert source.rgb and source.has_spacing == (spacing is not None)
    np.testing.assert_allclose(source.spacing_mm, spacing or (1, 1))


@pytest.mark.parametrize(
    ("timing", "times"),
    [
        ((0x18, 0x1065, "DS", "0\\33\\40\\33"), [0, 0.033, 0.073, 0.106]),
        ((0x18, 0x0040, "IS", "50"), [0, 0.02, 0.04, 0.06]),
        ((0x18, 0x1030, "LO", "no times"), None),
    ],
)
def test_the_times_of_a_clip(tmp_path, timing, times):
    source = open_frames(write_clip(tmp_path / "x.dcm", noise(4, 10, 12), timing=timing))
    assert source.times_s is None if times is None else np.allclose(source.times_s, times)


def test_a_clip_of_16_bits_and_one_written_by_simpleitk(tmp_path):
    deep = noise(5, 12, 10, dtype="uint16", top=4000)
    source = open_frames(write_clip(tmp_path / "a.dcm", deep, sop="1.2.840.10008.5.1.4.1.1.12.1"))
    np.testing.assert_array_equal(np.stack(read_all(source)), deep)
    assert source.window() == intensity_window(deep)
    sitk.WriteImage(sitk.GetImageFromArray(noise(5, 12, 10)), str(tmp_path / "b.dcm"))
    source = open_frames(tmp_path / "b.dcm")
    assert source.kind == "dicom-cine" and not source.has_spacing
    np.testing.assert_array_equal(np.stack(read_all(source)), noise(5, 12, 10))


def test_slices_in_one_file_are_a_volume_and_not_a_clip(tmp_path):
    source = open_frames(write_clip(tmp_path / "x.dcm", noise(5, 40, 50), spacing=(1, 1), sop=ENHANCED_MR), axis="k")
    assert (source.kind, source.count) == ("volume", 5)


def test_a_folder_of_clips_needs_a_choice_and_one_clip_does_not(tmp_path):
    write_clip(tmp_path / "a.dcm", noise(3, 8, 9))
    assert open_frames(tmp_path).kind == "dicom-cine"
    write_clip(tmp_path / "b.dcm", noise(4, 8, 9))
    with pytest.raises(InputError, match="2 DICOM files with clips.*give one file"):
        open_frames(tmp_path)


def test_a_damaged_clip_is_refused(tmp_path):
    path = write_clip(tmp_path / "x.dcm", noise(7, 40, 50))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="x.dcm"):
        open_frames(path)


# --- sequences ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("name", ["a.seq.nrrd", "a.nrrd"])
def test_a_sequence_as_slicer_writes_it(tmp_path, name, encoding):
    frames = noise(6, 1, 8, 5, dtype="int16", top=900)
    index = {"axis_3_index_type": "numeric", "axis_3_index_values": "0.0 0.1 0.2 0.4 0.5 0.75"}
    more = {"labels": '"" "" "" "time"', "units": '"" "" "" "s"'}
    source = open_frames(write_nrrd(tmp_path / name, frames, encoding, **LIST_LAST, **more, **index))
    assert (source.kind, source.name, source.count, source.shape) == ("sequence", "a", 6, (8, 5))
    assert source.spacing_mm == (0.4, 0.3) and source.has_spacing
    assert source.geometry == VolumeGeometry((5, 8, 1), (0.3, 0.4, 1), (1, 2, 3))
    assert source.times_s == [0, 0.1, 0.2, 0.4, 0.5, 0.75]
    assert source.index == ("time", "s", ["0.0", "0.1", "0.2", "0.4", "0.5", "0.75"])
    np.testing.assert_array_equal(np.stack(read_all(source)), frames[:, 0])
    assert source.window() == intensity_window(frames)


def test_a_sequence_with_time_first_as_older_slicers_wrote_it(tmp_path):
    frames = noise(6, 1, 8, 5)
    fields = {**LIST_LAST, "kinds": "list domain domain domain", "space": "right-anterior-superior"}
    fields["space_directions"] = "none (0.3,0,0) (0,0.4,0) (0,0,1)"
    path = write_nrrd(tmp_path / "a.seq.nrrd", np.ascontiguousarray(np.moveaxis(frames, 0, -1)), "gzip", **fields)
    source = open_frames(path)
    np.testing.assert_allclose(source.geometry.affine[:3], [[-0.3, 0, 0, -1], [0, -0.4, 0, -2], [0, 0, 1, 3]])
    found = np.stack(read_all(source))
    np.testing.assert_array_equal(found, frames[:, 0, ::-1, ::-1])  # rows to posterior, columns to the left
    np.testing.assert_array_equal(source.as_stored(found), frames[:, 0])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="not one of its 6 frames is whole"):
        open_frames(path)


def test_sequences_of_two_dimensions_of_colours_of_itk_and_of_another_byte_order(tmp_path):
    grey, colour = noise(6, 8, 5), noise(6, 1, 8, 5, 3)
    source = open_frames(write_nrrd(tmp_path / "flat.nrrd", grey, kinds="domain domain list"))
    np.testing.assert_array_equal(np.stack(read_all(source)), grey)
    assert not source.has_spacing and source.times_s is None
    source = open_frames(write_nrrd(tmp_path / "rgb.seq.nrrd", colour, kinds="RGB-color domain domain domain list"))
    np.testing.assert_array_equal(np.stack(read_all(source)), colour[:, 0])
    image = sitk.JoinSeries([sitk.GetImageFromArray(one[None].astype(np.float32)) for one in grey])
    image.SetSpacing((0.5, 0.6, 1, 0.1))
    sitk.WriteImage(image, str(tmp_path / "itk.nrrd"))
    source = open_frames(tmp_path / "itk.nrrd")
    np.testing.assert_array_equal(np.stack(read_all(source)), grey)
    assert source.spacing_mm == (0.6, 0.5)
    other = noise(6, 1, 8, 5, dtype="int16", top=900)
    path = write_nrrd(tmp_path / "big.nrrd", other.byteswap(), endian="big", **LIST_LAST)
    np.testing.assert_array_equal(np.stack(read_all(open_frames(path))), other[:, 0])


def test_a_sequence_written_by_pynrrd_with_a_header_of_its_own(tmp_path):
    nrrd = pytest.importorskip("nrrd")
    frames = noise(6, 1, 8, 5)
    header = {"kinds": ["domain", "domain", "domain", "list"]}
    nrrd.write(str(tmp_path / "a.nrrd"), frames, header, index_order="C")
    nrrd.write(str(tmp_path / "b.nhdr"), frames, header, index_order="C")
    for name in ("a.nrrd", "b.nhdr"):
        np.testing.assert_array_equal(np.stack(read_all(open_frames(tmp_path / name))), frames[:, 0])


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_of_a_sequence_that_is_cut_short_the_whole_frames_are_read(tmp_path, encoding):
    frames = noise(6, 1, 80, 50)
    path = write_nrrd(tmp_path / "a.seq.nrrd", frames, encoding, **LIST_LAST)
    path.write_bytes(path.read_bytes()[:-6000])
    source = open_frames(path)
    found = read_all(source)
    assert source.count == 6 and bad_ones(found) == [4, 5] and "missing" in found[5].reason
    np.testing.assert_array_equal(np.stack(found[:4]), frames[:4, 0])
    assert "from 4 on" in source.notes[0]


def test_frames_with_nan_are_bad(tmp_path):
    frames = noise(4, 1, 8, 5).astype(np.float32)
    frames[2, 0, 3, 3] = np.nan
    found = read_all(open_frames(write_nrrd(tmp_path / "a.seq.nrrd", frames, **LIST_LAST)))
    assert bad_ones(found) == [2] and "NaN" in found[2].reason


def test_volumes_in_time_and_segmentations_are_refused(tmp_path):
    path = write_nrrd(tmp_path / "heart.seq.nrrd", noise(6, 4, 8, 5), **LIST_LAST)
    with pytest.raises(InputError, match="6 volumes of 5x8x4 voxels.*volume of one time"):
        open_frames(path)
    path = write_nrrd(tmp_path / "a.seg.nrrd", noise(4, 8, 5, top=2))
    with pytest.raises(InputError, match="is a segmentation"):
        open_frames(path)


def test_one_volume_in_a_sequence_of_one_is_a_volume(tmp_path):
    assert open_frames(write_nrrd(tmp_path / "a.nrrd", noise(4, 8, 5), kinds="domain domain domain")).kind == "volume"


@settings(deadline=None, max_examples=60)
@given(geometry=geometries(), axis=st.sampled_from("kji"), seed=st.integers(0, 99))
def test_masks_are_turned_back_to_where_their_frame_lies(geometry, axis, seed):
    array = np.random.default_rng(seed).integers(0, 99, geometry.shape_kji).astype(np.uint8)
    source = FrameSource(Path("x"), "volume", geometry, 1, axis)
    turned = source.view.take(array)
    assert turned.shape[1:] == source.shape
    np.testing.assert_array_equal(source.as_stored(turned), take_slices(array, axis))


# --- volumes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_the_slices_of_a_volume_are_its_turned_slices(tmp_path, axis):
    array = noise(*OBLIQUE.shape_kji, dtype="float32", top=2000)
    write_volume(tmp_path / "v.nrrd", Volume(array, OBLIQUE))
    source = open_frames(tmp_path / "v.nrrd", axis)
    assert source.kind == "volume" and source.geometry.is_close(OBLIQUE) and source.has_spacing
    np.testing.assert_array_equal(np.stack(read_all(source)), source.view.take(array))
    np.testing.assert_array_equal(source.as_stored(np.stack(read_all(source))), take_slices(array, axis))
    assert source.window() == intensity_window(array)


def test_a_dicom_series_and_a_single_picture_are_volumes_and_the_axis_is_chosen(tmp_path):
    from test_volumes import write_dicom

    array = write_dicom(tmp_path / "series", "1.2.3.4", "T2")
    source = open_frames(tmp_path / "series")
    assert (source.kind, source.count, source.view.axis) == ("volume", 5, "k")
    np.testing.assert_array_equal(np.stack(read_all(source)), array)
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png")
    source = open_frames(tmp_path / "a.png")
    assert (source.kind, source.count, source.has_spacing) == ("volume", 1, False)
    with pytest.raises(GeometryError, match="must be one of 'k', 'j', 'i'"):
        open_frames(tmp_path / "a.png", "z")


def test_the_window_of_a_long_sequence_looks_at_few_frames(tmp_path, monkeypatch):
    frames = noise(200, 1, 8, 5, dtype="uint16", top=3000)
    source = open_frames(write_nrrd(tmp_path / "a.seq.nrrd", frames, **LIST_LAST))
    asked = []
    real = source.frame
    monkeypatch.setattr(source, "frame", lambda n: asked.append(n) or real(n))
    low, high = source.window()
    assert source.window() == (low, high) and 0 <= low < high <= 3000
    assert len(asked) == 16 and asked[0] == 0 and asked[-1] == 199
