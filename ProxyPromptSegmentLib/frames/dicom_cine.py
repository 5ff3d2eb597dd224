"""Multi-frame DICOM files: cine clips, as opposed to volumes."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.frames.source import FrameSource, numbers_of
from ProxyPromptSegmentLib.frames.stack import FrameStack, temporary_file
from ProxyPromptSegmentLib.frames.volume_slices import VolumeSlices
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.itk_images import image_to_array, quiet_itk

# Multi-frame SOP classes whose frames are slices in space, not a clip in time (DICOM PS3.6, table A-1): enhanced
# CT and MR and the converted ones, PET, ultrasound volume, X-ray 3D, tomosynthesis, OCT, segmentation, dose
VOLUME_CLASSES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{tail}"
    for tail in (
        "2.1", "2.2", "4.1", "4.3", "4.4", "6.2", "13.1.1", "13.1.2", "13.1.3", "30", "66.4", "77.1.5.4", "128.1",
        "130", "481.2",
    )
)  # fmt: skip


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM, judged by its suffix or its preamble."""
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    with suppress(OSError), path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False


def dicom_header(path: Path) -> Any:
    """Read the DICOM header of a file and return the SimpleITK reader."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    with quiet_itk():
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            raise InputError(f"{path.name} cannot be read as DICOM; it may be damaged. Copy it again.") from None
    return reader


def _tag(reader: Any, key: str) -> str:
    """Return a DICOM attribute as text; empty if it is missing."""
    return str(reader.GetMetaData(key)).strip(" \0") if reader.HasMetaDataKey(key) else ""


def is_cine(reader: Any) -> bool:
    """Return whether a DICOM file is a cine clip: several frames that are not declared as slices of a volume."""
    frames = _tag(reader, "0028|0008")
    return frames.isdecimal() and int(frames) > 1 and _tag(reader, "0008|0016") not in VOLUME_CLASSES


def open_dicom(path: Path, axis: str) -> FrameSource:
    """Open the cine clip in a file, or the volume that the file belongs to."""
    reader = dicom_header(path)
    if not is_cine(reader):
        return VolumeSlices(path, axis)
    with quiet_itk():
        try:
            image = reader.Execute()
        except RuntimeError:
            raise InputError(
                f"The frames of {path.name} cannot be decoded; the file may be cut short, or packed in a way that is "
                "not supported. Export the clip uncompressed or as a video."
            ) from None
    array, whole = image_to_array(image, path)
    del image
    spacing = (whole.spacing_mm[0], whole.spacing_mm[1])
    measured = bool(_tag(reader, "0028|0030")) or spacing != (1.0, 1.0)
    if not measured and (region := _region_spacing(path)):
        spacing, measured = region, True
    geometry = VolumeGeometry((*whole.size_ijk[:2], 1), (*spacing, 1.0), whole.origin_lps, whole.direction)
    with temporary_file(path) as file:
        for frame in array:
            file.write(np.ascontiguousarray(frame).data)
        file.flush()
        frames = np.memmap(file, array.dtype, "r", shape=array.shape)
    source = FrameStack(path, "dicom-cine", frames[:, None], geometry, len(frames))
    source.has_spacing, source.times_s = measured, _dicom_times(reader, len(frames))
    return source


def _dicom_times(reader: Any, count: int) -> list[float] | None:
    """Return frame times in s, from Frame Time Vector or Frame Time (both ms), or from the frame rate."""
    steps = numbers_of(_tag(reader, "0018|1065").replace("\\", " "))
    if steps is not None and len(steps) == count:
        return [float(t) for t in np.cumsum(steps) / 1000]
    step = numbers_of(_tag(reader, "0018|1063"))
    rate = numbers_of(_tag(reader, "0018|0040") or _tag(reader, "0008|2144"))
    seconds = step[0] / 1000 if step and step[0] > 0 else 1 / rate[0] if rate and rate[0] > 0 else None
    return None if seconds is None else [n * seconds for n in range(count)]


def _region_spacing(path: Path) -> tuple[float, float] | None:
    """Return the pixel size (column, row) in mm from Sequence of Ultrasound Regions, which SimpleITK does not expose.

    The little-endian header is searched for Physical Units X and Y Direction (0018,6024 and 6026; 3 is cm) and
    Physical Delta X and Y (0018,602C and 602E). Regions in other units (time, velocity) do not count.

    Returns:
        None if there are no regions, or regions of different scale.
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
