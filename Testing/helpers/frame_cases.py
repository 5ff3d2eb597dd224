"""Videos, clips, sequences, volumes and pictures that tests of frames are given, and masks of them."""

from __future__ import annotations

import gzip
import io
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ProxyPromptSegmentLib.frames import BadFrame, FrameSource, open_frames
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume

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
    fields = {"endian": "little"} | fields
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


def a_volume(tmp_path: Path, axis: str = "k") -> FrameSource:
    write_volume(tmp_path / "v.nrrd", Volume(noise(*OBLIQUE.shape_kji, dtype="float32", top=999), OBLIQUE))
    return open_frames(tmp_path / "v.nrrd", axis)
