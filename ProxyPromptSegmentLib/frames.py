"""Frames in time or space, one after another: videos, folders of pictures, cine DICOM, sequences, volumes.

Every source gives its frames in the same form and turned as `geometry.slice_view` turns slices, and tells where
they lie. Memory is bounded: a video is decoded frame by frame, a folder read picture by picture, what is packed
is unpacked into a temporary file. (GDCM decodes a cine clip in one piece; that piece is given back at once.)
A frame that cannot be read becomes a `BadFrame`, and reading goes on.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
import zlib
from bisect import insort
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, InputError, OutputError
from ProxyPromptSegmentLib.geometry import AXES, FloatArray, VolumeGeometry, auto_axis, axis_number, slice_view
from ProxyPromptSegmentLib.itk_images import PICTURE_SUFFIXES, _quiet_itk, image_to_array, read_image
from ProxyPromptSegmentLib.output_files import stem_of, suffix_of
from ProxyPromptSegmentLib.preprocess import intensity_window
from ProxyPromptSegmentLib.seg_nrrd import is_seg_nrrd
from ProxyPromptSegmentLib.volumes import Volume, read_volume

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".ogv", ".3gp", ".flv", ".ts", ".gif",
)  # fmt: skip
Kind = Literal["video", "folder", "dicom-cine", "sequence", "volume"]
Frame = npt.NDArray[Any]

_WINDOW_FRAMES, _WINDOW_PIXELS = 16, 1 << 16  # of so many frames so many pixels decide the intensity window
_COLOUR_FRAMES = 5
_GREY_TOLERANCE, _COLOURED_PART = 8, 1e-3  # of 255; lossy colour planes wander by a few levels
# SOP classes of several frames that are slices in space and not a clip in time (DICOM PS3.6, table A-1): enhanced
# CT and MR and the converted ones, PET, ultrasound volume, X-ray 3D, tomosynthesis, OCT, segmentation, dose
_VOLUME_CLASSES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{tail}"
    for tail in (
        "2.1", "2.2", "4.1", "4.3", "4.4", "6.2", "13.1.1", "13.1.2", "13.1.3", "30", "66.4", "77.1.5.4", "128.1",
        "130", "481.2",
    )
)  # fmt: skip
_NRRD_TYPES = {
    name: code
    for code, names in {
        "i1": "signed char,int8,int8_t", "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t", "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t", "f4": "float", "f8": "double",
    }.items()
    for name in names.split(",")
}  # fmt: skip


@dataclass(frozen=True)
class BadFrame:
    """A frame that cannot be used.

    Attributes:
        index: Its number, counted from 0.
        reason: Why, as the part of a sentence that follows ``frame 7: ``.
    """

    index: int
    reason: str


class FrameSource:
    """Frames of one size, given in order or by number.

    Attributes:
        path: File or folder.
        name: What to call it.
        kind: What it is.
        count: Number of frames. Of a video it is what the file states, if anything, until it was read to its end.
        shape: Rows and columns of every frame, after turning.
        rgb: Whether frames are ``(H, W, 3)`` and not ``(H, W)``.
        eight_bit: Whether they are uint8 and not float32.
        spacing_mm: Pixel size (row, column) after turning; 1 where it is not known, but with the right ratio.
        has_spacing: Whether ``spacing_mm`` is really in mm.
        geometry: Of one frame as a volume of one slice; of the whole volume where that is the kind.
        view: How frames are turned.
        volume: The volume, where that is the kind.
        times_s: Presentation times in seconds where they are known, even or uneven; of a video they come as it is
            read.
        labels: Names of the frames' files without suffix, of a folder.
        index: Name, unit and values of the axis that a sequence file counts its frames by.
        direct: Whether a frame is reached by its number without reading those before it.
        notes: What the user should know, as sentences.
    """

    direct = True

    def __init__(self, path: Path, kind: Kind, geometry: VolumeGeometry, count: int | None, axis: str = "k") -> None:
        """Sets what every source has; ``axis`` is the one across the frames."""
        self.path, self.kind, self.geometry, self.count = path, kind, geometry, count
        name = path.resolve().name if path.is_dir() else stem_of(path)
        self.name = name[:-4] if name.lower().endswith(".seq") else name
        self.view = slice_view(geometry, axis)
        turned = self.view.take(np.broadcast_to(np.uint8(0), geometry.shape_kji)).shape
        self.shape: tuple[int, int] = (turned[1], turned[2])
        self.spacing_mm = self.view.spacing_mm
        self.rgb, self.eight_bit, self.has_spacing = False, True, False
        self.volume: Volume | None = None
        self.times_s: list[float] | None = None
        self.labels: list[str] | None = None
        self.index: tuple[str, str, list[str]] | None = None
        self.notes: list[str] = []
        self._window: tuple[float, float] | None = None
        self._dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __iter__(self) -> Iterator[tuple[int, Frame | BadFrame]]:
        """All frames in order with their numbers; may be begun anew."""
        for index in range(self.count or 0):
            yield index, self.frame(index)

    def frame(self, index: int) -> Frame | BadFrame:
        """One frame, ``(H, W)`` or ``(H, W, 3)``, uint8 or float32.

        Raises:
            IndexError: If there is no such frame.
        """
        if not 0 <= index < (self.count or 0):
            raise IndexError(f"{self.name} has no frame {index}; its frames are 0 to {(self.count or 0) - 1}")
        try:
            return self._finished(index, self._stored(index))
        except InputError as error:
            return BadFrame(index, re.split(r";|: |\. |\.$", str(error), maxsplit=1)[0])

    def window(self) -> tuple[float, float]:
        """Intensities (low, high) to be shown as black and white: of 8 bits all, else those of a bounded sample.

        Raises:
            InputError: If no frame of the sample can be read, or all are of one intensity.
        """
        if self._window is None:
            self._window = (0.0, 255.0) if self.eight_bit and self.kind != "volume" else self._sampled_window()
        return self._window

    def as_stored(self, turned: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turns masks of a frame ``(..., H, W)`` back to the rows and columns of the file."""
        empty = np.broadcast_to(np.uint8(0), self.geometry.shape_kji)
        rows, columns = (n for a, n in enumerate(empty.shape) if a != axis_number(self.view.axis))
        stored = np.empty((*turned.shape[:-2], rows, columns), turned.dtype)
        part = stored.swapaxes(-1, -2) if self.view.transpose else stored
        part[..., :: -1 if self.view.flip_rows else 1, :: -1 if self.view.flip_columns else 1] = turned
        return stored

    def _stored(self, index: int) -> Frame:
        """The frame as a volume of one slice ``(K, J, I[, 3])``; InputError if it cannot be read."""
        raise NotImplementedError

    def _learn(self, samples: Sequence[Frame]) -> None:
        """Finds from stored frames, the first one ahead, what all are made into: grey or colour, 8 bits or float32."""
        self.rgb = any(s.ndim == 4 and not _is_grey(s) for s in samples)
        self._dtype = samples[0].dtype
        self.eight_bit = self._dtype == np.uint8

    def _finished(self, index: int, stored: Frame) -> Frame | BadFrame:
        """Checks a stored frame and brings it into the form of all."""
        if stored.shape[:3] != self.geometry.shape_kji:
            found, wanted = (f"{s[-1]}x{s[-2]}" for s in (stored.shape[:3], self.geometry.shape_kji))
            return BadFrame(index, f"it has {found} pixels instead of {wanted}")
        if stored.dtype != self._dtype:
            return BadFrame(index, f"its pixels are {stored.dtype} instead of {self._dtype}")
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            return BadFrame(index, "it has NaN or infinite intensity")
        frame = self.view.take(stored)[0]
        if frame.ndim == 3 and not self.rgb:
            frame = _to_grey(frame)
        elif frame.ndim == 2 and self.rgb:
            frame = np.repeat(frame[..., None], 3, axis=2)
        return np.ascontiguousarray(frame, dtype=np.uint8 if self.eight_bit else np.float32)

    def _sampled_window(self) -> tuple[float, float]:
        """The intensity window of an evenly spread sample."""
        values = []
        for n in _spread(self.count or 0, _WINDOW_FRAMES):
            frame = self.frame(n)
            if not isinstance(frame, BadFrame):
                step = max(1, math.isqrt(frame.size // _WINDOW_PIXELS))
                values.append(frame[::step, ::step].ravel())
        if not values:
            raise InputError(f"none of the frames of {self.path.name} that were looked at can be read.")
        try:
            return intensity_window(np.concatenate(values))
        except InputError as error:
            raise InputError(f"{self.path.name}: {error}.") from None


def open_frames(path: Path | str, axis: str = "auto") -> FrameSource:
    """Opens whatever holds frames.

    Args:
        path: A video; a folder of pictures, in the order of the numbers in their names; a DICOM file of several
            frames; a sequence of Slicer (``.seq.nrrd``, or NRRD of four dimensions) with one slice per time; or
            anything that `read_volume` reads, a DICOM series included, whose slices are then the frames.
        axis: The axis along which a volume is walked: ``k``, ``j``, ``i``, or ``auto`` for the acquired one.

    Raises:
        InputError: If it is missing, empty, damaged, or holds no frames or several volumes.
        GeometryError: If the axis is unknown.
        OutputError: If there is no room for unpacking it.
    """
    path = Path(path)
    if axis != "auto":
        axis_number(axis)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a video, a folder of frames, a sequence or a volume.")
    if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
        raise InputError(f"{path} may not be read by this user; change its permissions.")
    if path.is_dir():
        return _open_folder(path, axis)
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); the file was not completely written or copied.")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _Video(path)
    if is_seg_nrrd(path):
        raise InputError(f"{path.name} is a segmentation; give the images that are to be segmented.")
    if _is_dicom(path):
        return _open_dicom(path, axis)
    sequence = _open_sequence(path) if path.suffix.lower() in (".nrrd", ".nhdr") else None
    return sequence or _Slices(path, axis)


# --- volumes ------------------------------------------------------------------------------------------------


class _Slices(FrameSource):
    """The slices of a volume along an axis."""

    def __init__(self, path: Path, axis: str) -> None:
        volume = read_volume(path)
        chosen = auto_axis(volume.geometry) if axis == "auto" else axis
        super().__init__(path, "volume", volume.geometry, volume.array.shape[axis_number(chosen)], chosen)
        self.volume, self._slices = volume, self.view.take(volume.array)
        self.rgb, self.eight_bit = volume.is_rgb, False
        self.has_spacing = suffix_of(path) not in PICTURE_SUFFIXES

    def frame(self, index: int) -> Frame | BadFrame:
        """One slice, turned; float32."""
        if not 0 <= index < len(self._slices):
            raise IndexError(f"{self.name} has no slice {index}; its slices are 0 to {len(self._slices) - 1}")
        return np.ascontiguousarray(self._slices[index])

    def _sampled_window(self) -> tuple[float, float]:
        """That of the whole volume, as when it is segmented slice by slice."""
        assert self.volume is not None
        return intensity_window(self.volume.array)


# --- folders of pictures ------------------------------------------------------------------------------------


class _Pictures(FrameSource):
    """A folder of pictures."""

    def __init__(self, folder: Path, files: list[Path]) -> None:
        self._files = files
        first: Frame | None = None
        for file in files:
            with suppress(InputError):
                first = _read_picture(file)
                break
        if first is None:
            raise InputError(f"none of the {len(files)} pictures in {folder} can be read; copy or export them again.")
        super().__init__(folder, "folder", VolumeGeometry((first.shape[2], first.shape[1], 1)), len(files))
        self.labels = [file.stem for file in files]
        samples = [first]
        for n in _spread(len(files), _COLOUR_FRAMES):
            with suppress(InputError):
                samples.append(_read_picture(files[n]))
        self._learn(samples)

    def _stored(self, index: int) -> Frame:
        return _read_picture(self._files[index])


def _read_picture(path: Path) -> Frame:
    """A picture ``(1, H, W[, 3])`` in its own type, transparency dropped."""
    if path.suffix.lower() == ".bmp":  # ITK reads what is there and leaves the rest black
        head = path.read_bytes()[:6]
        if head[:2] == b"BM" and int.from_bytes(head[2:6], "little") > path.stat().st_size:
            raise InputError(f"{path.name} is cut short; copy or export it again.")
    try:
        array, _ = image_to_array(read_image(path), path)
    except InputError:
        if (grey := _grey_of_transparent(path)) is None:
            raise
        return grey
    if len(array) != 1:
        raise InputError(f"{path.name} has {len(array)} pages; a frame is one picture.")
    return array


def _grey_of_transparent(path: Path) -> Frame | None:
    """A PNG of grey and transparency ``(1, H, W)``, which SimpleITK does not read; None if it is something else."""
    from PIL import Image

    with suppress(OSError, ValueError, SyntaxError), Image.open(path) as picture:
        if picture.mode == "LA":
            return np.asarray(picture)[None, ..., 0]
    return None


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """A key that puts frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def _open_folder(folder: Path, axis: str) -> FrameSource:
    """A DICOM series or clip, or pictures."""
    files = [f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")]
    pictures = [f for f in files if suffix_of(f) in PICTURE_SUFFIXES]
    dicom = sorted((f for f in files if f not in set(pictures) and _is_dicom(f)), key=_natural)
    if pictures and dicom:
        raise InputError(
            f"The folder {folder} holds {len(pictures)} pictures and {len(dicom)} DICOM files; give a folder that "
            "holds only the frames."
        )
    if pictures:
        return _Pictures(folder, sorted(pictures, key=_natural))
    if not dicom:
        raise InputError(
            f"The folder {folder} holds neither pictures ({', '.join(PICTURE_SUFFIXES)}) nor DICOM files; give the "
            "folder in which the frames themselves lie."
        )
    if len(dicom) == 1:
        return _open_dicom(dicom[0], axis)
    if any(_is_cine(_dicom_header(file)) for file in dicom[:2]):
        raise InputError(
            f"The folder {folder} holds {len(dicom)} DICOM files with clips such as {dicom[0].name}; give one file."
        )
    return _Slices(folder, axis)


# --- DICOM --------------------------------------------------------------------------------------------------


def _is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its name or its preamble."""
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    with suppress(OSError), path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False


def _dicom_header(path: Path) -> Any:
    """A SimpleITK reader that has read the header."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    with _quiet_itk():
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            raise InputError(f"{path.name} cannot be read as DICOM; it may be damaged. Copy it again.") from None
    return reader


def _tag(reader: Any, key: str) -> str:
    """A DICOM attribute as text; empty where it is missing."""
    return str(reader.GetMetaData(key)).strip(" \0") if reader.HasMetaDataKey(key) else ""


def _is_cine(reader: Any) -> bool:
    """Whether a DICOM file is a clip in time: several frames that are not declared as slices of a volume."""
    frames = _tag(reader, "0028|0008")
    return frames.isdecimal() and int(frames) > 1 and _tag(reader, "0008|0016") not in _VOLUME_CLASSES


def _open_dicom(path: Path, axis: str) -> FrameSource:
    """A clip in one file, or the volume that the file belongs to."""
    reader = _dicom_header(path)
    if not _is_cine(reader):
        return _Slices(path, axis)
    with _quiet_itk():
        try:
            image = reader.Execute()
        except RuntimeError:
            raise InputError(
                f"The frames of {path.name} cannot be decoded; the file may be cut short, or packed in a way that "
                "is not supported. Export the clip uncompressed or as a video."
            ) from None
    array, whole = image_to_array(image, path)
    del image
    spacing = (whole.spacing_mm[0], whole.spacing_mm[1])
    measured = bool(_tag(reader, "0028|0030")) or spacing != (1.0, 1.0)
    if not measured and (region := _region_spacing(path)):
        spacing, measured = region, True
    geometry = VolumeGeometry((*whole.size_ijk[:2], 1), (*spacing, 1.0), whole.origin_lps, whole.direction)
    with _temporary_file(path) as file:
        for frame in array:
            file.write(np.ascontiguousarray(frame).data)
        file.flush()
        frames = np.memmap(file, array.dtype, "r", shape=array.shape)
    source = _Stack(path, "dicom-cine", frames[:, None], geometry, len(frames))
    source.has_spacing, source.times_s = measured, _dicom_times(reader, len(frames))
    return source


def _dicom_times(reader: Any, count: int) -> list[float] | None:
    """When the frames were taken: from Frame Time Vector, Frame Time (both ms), or the frames per second."""
    steps = _numbers(_tag(reader, "0018|1065").replace("\\", " "))
    if steps is not None and len(steps) == count:
        return [float(t) for t in np.cumsum(steps) / 1000]
    step = _numbers(_tag(reader, "0018|1063"))
    rate = _numbers(_tag(reader, "0018|0040") or _tag(reader, "0008|2144"))
    seconds = step[0] / 1000 if step and step[0] > 0 else 1 / rate[0] if rate and rate[0] > 0 else None
    return None if seconds is None else [n * seconds for n in range(count)]


def _region_spacing(path: Path) -> tuple[float, float] | None:
    """Pixel size (column, row) in mm from Sequence of Ultrasound Regions, which SimpleITK does not hand out.

    The little-endian header is searched for Physical Units X and Y Direction (0018,6024 and 6026; 3 is cm) and
    Physical Delta X and Y (0018,602C and 602E). Regions in other units (time, velocity) do not count.

    Returns:
        None if there is none, or regions of different scale.
    """
    with path.open("rb") as file:
        header = file.read(1 << 20).partition(b"\xe0\x7f\x10\x00")[0]

    def values(element: bytes, kind: bytes, size: int, dtype: str) -> npt.NDArray[Any]:
        heads = kind + size.to_bytes(2, "little") + b"|" + size.to_bytes(4, "little")
        found = re.findall(
            b"\x18\x00" + re.escape(element) + b"\x60(?:" + heads + b")(.{%d})" % size, header, re.DOTALL
        )
        return np.frombuffer(b"".join(found), dtype)

    units = [values(element, b"US", 2, "<u2") for element in (b"\x24", b"\x26")]
    deltas = [values(element, b"FD", 8, "<f8") for element in (b"\x2c", b"\x2e")]
    if len({len(v) for v in (*units, *deltas)}) != 1:
        return None
    scales = {
        (abs(float(dx)) * 10, abs(float(dy)) * 10)
        for ux, uy, dx, dy in zip(*units, *deltas, strict=True)
        if ux == uy == 3 and np.isfinite(dx * dy) and dx * dy != 0
    }
    return scales.pop() if len(scales) == 1 else None


# --- sequences in NRRD --------------------------------------------------------------------------------------


class _Stack(FrameSource):
    """Frames in an array ``(T, K, J, I[, 3])`` that lies in a file; the last ones may be missing."""

    def __init__(self, path: Path, kind: Kind, array: Frame, geometry: VolumeGeometry, count: int) -> None:
        axis = next(name for name, n in zip(AXES, geometry.shape_kji, strict=True) if n == 1)
        super().__init__(path, kind, geometry, count, axis)
        self._array = array
        self._learn([array[n] for n in _spread(len(array), _COLOUR_FRAMES)])

    def _stored(self, index: int) -> Frame:
        if index >= len(self._array):
            raise InputError("its data are missing, the file is cut short")
        return np.asarray(self._array[index])


def _open_sequence(path: Path) -> FrameSource | None:
    """A sequence in NRRD as Slicer and ITK write it; None if the file is one volume."""
    import nrrd

    with path.open("rb") as file:
        try:
            header: dict[str, Any] = dict(nrrd.read_header(file))
            offset = file.tell()
            sizes = [int(n) for n in header["sizes"]]
            time, colour, space = _axes_of(header, len(sizes), path.name.lower())
            dtype = np.dtype(_NRRD_TYPES[str(header["type"]).lower()])
        except Exception:  # noqa: BLE001  # a damaged header can lead pynrrd anywhere; the reader of volumes tells why
            return None
    if time is None or min(sizes) < 1:
        return None
    shape = tuple(sizes[n] for n in reversed(space))
    size = (1,) * (3 - len(shape)) + shape
    if min(size) > 1 and sizes[time] == 1:
        return None
    if min(size) > 1:
        raise InputError(
            f"{path.name} is a sequence of {sizes[time]} volumes of {'x'.join(str(n) for n in reversed(size))} voxels; "
            "a sequence of single slices or one volume is needed. Save the volume of one time in Slicer and give that."
        )
    raw = _nrrd_data(path, header, offset, dtype, sizes, time == len(sizes) - 1)
    order = [len(sizes) - 1 - n for n in (time, *reversed(space), *([] if colour is None else [colour]))]
    array = raw.transpose(order)
    if len(shape) == 2:
        array = array[:, None]
    array = array if colour is None else array[..., :3]
    if not array.size:
        raise InputError(f"{path.name} is cut short: not one of its {sizes[time]} frames is whole. Copy it again.")
    geometry, measured = _nrrd_geometry(header, space, size, path)
    source = _Stack(path, "sequence", array, geometry, sizes[time])
    source.has_spacing, source.index = measured, _nrrd_index(header, time, sizes[time])
    source.times_s = _index_times(source.index)
    if len(array) < sizes[time]:
        source.notes.append(f"{path.name} is cut short: the frames from {len(array)} on are missing.")
    return source


def _axes_of(header: dict[str, Any], dimension: int, name: str) -> tuple[int | None, int | None, list[int]]:
    """Which axes of a NRRD file are time (None: it is a volume), colour and space, fastest first."""
    kinds = [str(kind).lower() for kind in header.get("kinds") or ["???"] * dimension]
    directions = header.get("space directions")
    nowhere = [] if directions is None else [n for n, row in enumerate(directions) if not _is_vector(row)]
    times = [n for n, kind in enumerate(kinds) if kind in ("list", "time")]
    colours = [n for n, kind in enumerate(kinds) if kind.endswith("-color")]
    if dimension == 5 or times:  # a vector beside the time axis has colours in it
        colours += [n for n, kind in enumerate(kinds) if kind == "vector"]
    rest = [n for n in range(dimension) if n not in colours]
    if not times and len(rest) == 4:
        vectors = [n for n in rest if kinds[n] == "vector"]
        if vectors and ".seq." not in name:
            return None, None, []  # a volume of vectors
        times = vectors or [n for n in nowhere if n in rest] or rest[-1:]
    space = [n for n in rest if n not in times]
    if len(times) != 1 or len(colours) > 1 or len(space) not in (2, 3):
        return None, None, []
    if colours and int(header["sizes"][colours[0]]) not in (3, 4):
        return None, None, []
    return times[0], colours[0] if colours else None, space


def _is_vector(row: Any) -> bool:
    """Whether a row of ``space directions`` is not ``none``."""
    return row is not None and bool(np.isfinite(np.asarray(row, dtype=float)).all())


def _nrrd_data(
    path: Path, header: dict[str, Any], offset: int, dtype: np.dtype[Any], sizes: list[int], time_last: bool
) -> Frame:
    """The voxels, slowest axis first, mapped from a file; fewer frames where a file with time last is cut short."""
    import nrrd

    if header.get("endian") == "big":
        dtype = dtype.newbyteorder(">")
    encoding = str(header.get("encoding", "raw")).lower()
    elsewhere = {"data file", "datafile", "byte skip", "byteskip", "line skip", "lineskip"}
    if elsewhere & header.keys() or encoding not in ("raw", "gzip", "gz"):
        try:
            return np.asarray(nrrd.read(str(path), index_order="C")[0])
        except Exception as error:  # noqa: BLE001  # pynrrd raises many kinds
            reason = " ".join(str(error).split())[:120].rstrip(".")
            raise InputError(f"{path.name} cannot be read as a sequence ({reason}). Save it again.") from None
    whole = math.prod(sizes) * dtype.itemsize
    part = whole // sizes[-1] if time_last else whole
    if encoding == "raw":
        usable = min(whole, path.stat().st_size - offset) // part * part
        return _mapped(path.open("rb"), dtype, usable, offset, sizes)
    with _temporary_file(path) as file:
        usable = _gunzip(path, offset, file, whole) // part * part
        return _mapped(file, dtype, usable, 0, sizes)


def _mapped(file: IO[bytes], dtype: np.dtype[Any], usable: int, offset: int, sizes: list[int]) -> Frame:
    """``usable`` bytes of a file as an array of which only the slowest axis may be shorter; closes the file."""
    row = math.prod(sizes[:-1]) * dtype.itemsize
    shape = (usable // row, *reversed(sizes[:-1]))
    with file:
        file.flush()
        return np.memmap(file, dtype, "r", offset, shape) if usable else np.empty(shape, dtype)


def _gunzip(path: Path, offset: int, target: IO[bytes], most: int) -> int:
    """Unpacks up to ``most`` bytes as far as the file goes; returns how many came."""
    unpacker, done = zlib.decompressobj(31), 0
    with path.open("rb") as packed:
        packed.seek(offset)
        while done < most and not unpacker.eof:
            block = unpacker.unconsumed_tail or packed.read(1 << 18)
            if not block:
                break
            try:
                plain = unpacker.decompress(block, min(most - done, 1 << 24))
            except zlib.error:
                break
            target.write(plain)
            done += len(plain)
    return done


@contextmanager
def _temporary_file(path: Path) -> Iterator[IO[bytes]]:
    """A file without a name for unpacked frames; it goes when nothing maps it any more."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:
        raise OutputError(
            f"{path.name} could not be unpacked into {tempfile.gettempdir()}: {error.strerror or error}. Free space "
            "there, or name another folder in the environment variable TMPDIR."
        ) from None


def _nrrd_geometry(
    header: dict[str, Any], space: list[int], size: tuple[int, ...], path: Path
) -> tuple[VolumeGeometry, bool]:
    """The lattice of one frame of ``(K, J, I)`` voxels, in LPS, and whether the file gives its spacing."""
    signs = np.ones(3)
    named = str(header.get("space", "")).lower()
    if named.startswith(("right-anterior", "ras", "rast")):
        signs[:2] = -1
    elif named.startswith(("left-anterior", "las")):
        signs[1] = -1
    rows, spacings = header.get("space directions"), header.get("spacings")
    columns = [np.zeros(3)] * 3
    measured = False
    for n, axis in enumerate(space):
        if rows is not None and _is_vector(rows[axis]):
            vector: FloatArray = np.zeros(3)
            vector[: min(3, len(rows[axis]))] = np.asarray(rows[axis], dtype=float)[:3]
            columns[n] = vector * signs
            measured = True
        elif spacings is not None and np.isfinite(float(spacings[axis])):
            columns[n] = np.eye(3)[n] * float(spacings[axis])
            measured = True
    flat = 2 - size.index(1)
    others = [n for n in range(3) if n != flat]
    for n in others:
        if not columns[n].any():
            columns[n] = np.eye(3)[n]
    if not columns[flat].any():  # one slice: its distance to a next one may be left out
        normal = np.cross(columns[others[0]], columns[others[1]])
        columns[flat] = normal / (np.linalg.norm(normal) or 1) * (-1 if flat == 1 else 1)
    affine = np.eye(4)
    affine[:3, :3] = np.stack(columns, axis=1)
    origin = header.get("space origin")
    if origin is not None and _is_vector(origin):
        affine[: min(3, len(origin)), 3] = np.asarray(origin, dtype=float)[:3]
        affine[:3, 3] *= signs
    try:
        return VolumeGeometry.from_affine(affine, (size[2], size[1], size[0])), measured
    except GeometryError as error:
        raise InputError(f"{path.name}: {error}") from None


def _nrrd_index(header: dict[str, Any], time: int, count: int) -> tuple[str, str, list[str]] | None:
    """Name, unit and values of the time axis, as Slicer stores them."""
    found = [str(v).split() for k, v in header.items() if re.fullmatch(r"axis \d+ index values", str(k))]
    if not found or len(found[0]) != count:
        return None
    name, unit = (str((header.get(key) or [""] * 9)[time] or "") for key in ("labels", "units"))
    return name, unit, found[0]


def _index_times(index: tuple[str, str, list[str]] | None) -> list[float] | None:
    """Seconds, if the time axis counts in seconds or milliseconds."""
    numbers = _numbers(" ".join(index[2])) if index else None
    if index is None or numbers is None or index[1] not in ("s", "ms", "") or (not index[1] and index[0] != "time"):
        return None
    return [t / 1000 for t in numbers] if index[1] == "ms" else numbers


# --- videos -------------------------------------------------------------------------------------------------


class _Video(FrameSource):
    """A video, decoded from its beginning each time."""

    direct = False

    def __init__(self, path: Path) -> None:
        self.path, self._rotation = path, 0
        first: Frame | None = None
        with self._opened() as (container, stream):
            for _, found in self._decoded(container, stream):
                if not isinstance(found, str):
                    first = found
                    break
            if first is None:
                raise InputError(
                    f"No frame of {path.name} can be decoded; the video is empty or damaged. Convert it to MP4 or to "
                    "a folder of pictures."
                )
            ratio = float(stream.sample_aspect_ratio or 1)
            spacing = (ratio if 0.1 < ratio < 10 else 1.0, 1.0, 1.0)
            self._stated, self._seconds = int(stream.frames) or None, (container.duration or 0) / 1e6
            geometry = VolumeGeometry((first.shape[2], first.shape[1], 1), spacing)
            super().__init__(path, "video", geometry, self._stated)
            self._learn([first, *self._samples(container, stream)])
            self.times_s = []
            if self._rotation:
                self.notes.append(
                    f"{path.name} asks players to turn it by {self._rotation} degrees; its frames are taken as stored."
                )

    def __iter__(self) -> Iterator[tuple[int, Frame | BadFrame]]:
        """All frames in the order in which they are shown."""
        assert self.times_s is not None
        index = -1
        with self._opened() as (container, stream):
            for index, (seconds, found) in enumerate(self._decoded(container, stream)):
                if index == len(self.times_s):
                    self.times_s.append(seconds)
                yield index, BadFrame(index, found) if isinstance(found, str) else self._finished(index, found)
        stated, self.count = self._stated, index + 1
        last = self.times_s[-1] if self.times_s else 0.0
        if (stated and stated > self.count + 1) or (not stated and last < 0.9 * self._seconds - 0.1):
            wanted = f"{stated} frames" if stated else f"{self._seconds:.3g} s"
            note = (
                f"{self.path.name} should have {wanted} and ends after {self.count} frames, at {last:.3g} s; it may be "
            )
            note += "cut short or damaged."
            self.notes += [note] if note not in self.notes else []

    def frame(self, index: int) -> Frame | BadFrame:
        """One frame; all before it are decoded too."""
        for n, found in self:
            if n == index:
                return found
        raise IndexError(f"{self.name} has no frame {index}; its frames are 0 to {(self.count or 0) - 1}")

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """The container and its first video stream; InputError if it is no video."""
        try:
            import av
        except ImportError:
            raise InputError(
                f"Reading the video {self.path.name} needs the Python package av, which is not installed here. "
                "Install it with `pip install av`, or give a folder with the frames as pictures instead."
            ) from None
        try:
            container = av.open(str(self.path))
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or error)[:120]
            raise InputError(
                f"{self.path.name} is not a video that can be read ({reason}). It may be damaged, cut short or "
                "something else; export it again as MP4, or give a folder with the frames as pictures."
            ) from None
        with container:
            if not container.streams.video:
                raise InputError(f"{self.path.name} has sound but no pictures; give a video.")
            yield container, container.streams.video[0]

    def _decoded(self, container: Any, stream: Any) -> Iterator[tuple[float, Frame | str]]:
        """Time and frame ``(1, H, W, 3)``, or the reason why there is none, in the order of showing.

        Packets come in the order of decoding. A damaged one is held until the frames before it have been shown.
        """
        import av

        base, step = float(stream.time_base or 0), 1 / float(stream.average_rate or 25)
        last, failed = -step, list[float]()
        packets = container.demux(stream)
        packet: Any = None
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:  # the container itself is damaged from here on
                break
            if packet is None:
                break
            if packet.size == 0 and packet.pts is not None:
                continue  # it says: show the last frame again
            frames = []
            try:
                frames = packet.decode()
            except av.FFmpegError:
                if packet.size:
                    insort(failed, last + step if packet.pts is None else packet.pts * base)
            for frame in frames:
                shown = last + step if frame.pts is None else frame.pts * base
                while failed and failed[0] <= shown:
                    last = failed.pop(0)
                    yield last, "its data are damaged"
                last, self._rotation = shown, getattr(frame, "rotation", 0)
                whole = not frame.is_corrupt
                yield shown, frame.to_ndarray(format="rgb24")[None] if whole else "its data are damaged"
        for last in failed:
            yield last, "its data are damaged"

    def _samples(self, container: Any, stream: Any) -> Iterator[Frame]:
        """Some frames from further on, where the file can be searched."""
        import av

        for part in range(1, _COLOUR_FRAMES):
            with suppress(av.FFmpegError, OSError):
                container.seek(int((container.duration or 0) * part / _COLOUR_FRAMES))
                found = next((f for _, f in self._decoded(container, stream) if not isinstance(f, str)), None)
                if found is not None:
                    yield found


# --- small things -------------------------------------------------------------------------------------------


def _spread(count: int, most: int) -> list[int]:
    """At most so many numbers, evenly over ``range(count)``."""
    return sorted({round(float(n)) for n in np.linspace(0, count - 1, min(count, most))}) if count else []


def _numbers(text: str) -> list[float] | None:
    """Finite numbers separated by blanks; None if there are none or something else."""
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        return None
    return numbers if numbers and all(math.isfinite(n) for n in numbers) else None


def _is_grey(rgb: Frame) -> bool:
    """Whether red, green and blue are the same but for the noise of lossy colours."""
    top = 257 if rgb.dtype == np.uint16 else 1
    wide = rgb.astype(np.int32)
    return bool(np.mean(wide.max(axis=-1) - wide.min(axis=-1) > _GREY_TOLERANCE * top) <= _COLOURED_PART)


def _to_grey(rgb: Frame) -> Frame:
    """Luminance ``(H, W)`` with the weights of ITU-R BT.601 in 256ths: of equal colours exactly their value."""
    if rgb.dtype.kind == "f":
        return rgb.mean(axis=-1)
    wide = rgb.astype(np.uint32)
    return ((wide[..., 0] * 77 + wide[..., 1] * 150 + wide[..., 2] * 29 + 128) >> 8).astype(rgb.dtype)
