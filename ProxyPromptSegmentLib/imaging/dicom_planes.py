"""The planes of a DICOM image: which instance or frame shows which slice, and their grid; read through pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ProxyPromptSegmentLib.errors import InputError, OutputError
from ProxyPromptSegmentLib.imaging.dicom.header import frame_count, is_dicom, numbers, read_dataset, word
from ProxyPromptSegmentLib.imaging.dicom.places import grid_of, places_of
from ProxyPromptSegmentLib.imaging.dicom.series import series_of
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
"""What DICOM wants in every file, empty if it is not known, and highdicom repeats."""
_ELSE = "Write the result as .seg.nrrd instead, or segment the series as the scanner stored it."


@dataclass(frozen=True, kw_only=True)
class DicomPlanes:
    """The planes of a series of single frames, or of one file with many frames.

    Attributes:
        datasets: The headers, without voxels: one for each plane in the order of ``order``, or one for all.
        order: For each slice of the grid, the plane that shows it: its place in ``datasets``, or its frame.
        geometry: The grid of the planes; its k axis runs along their positions.
        thickness_mm: Thickness of a slice; the distance of the slices if the headers do not say it.
    """

    datasets: tuple[Dataset, ...]
    order: tuple[int, ...]
    geometry: VolumeGeometry
    thickness_mm: float


def dicom_files(source: Path | None) -> list[str]:
    """Return the files of the DICOM image that a volume was read from.

    Args:
        source: The file or folder of the volume.

    Raises:
        OutputError: If the volume was not read from DICOM.
        InputError: If the folder has no series, or several.
    """
    if source is None or not (source.is_dir() or (source.is_file() and is_dicom(source))):
        raise not_from_dicom("" if source is None else source.name)
    return [str(file) for file in series_of(source).files]


def not_from_dicom(name: str) -> OutputError:
    """Return the error for an image that DICOM SEG cannot refer to."""
    return OutputError(
        f"{name or 'The image'} was not read from DICOM, and DICOM SEG has to name the DICOM images that it belongs "
        "to. Segment the DICOM series itself, or write the result as .seg.nrrd."
    )


def read_planes(files: Sequence[str | Path]) -> DicomPlanes:
    """Read the headers of an image's files.

    Raises:
        InputError: If a file cannot be read, or the planes have no position or form no volume.
    """
    datasets = [read_dataset(Path(file)) for file in files]
    if not datasets:
        raise InputError("the image has no DICOM files; segment the DICOM series itself.")
    first = datasets[0]
    for name, said in (
        ("SOPInstanceUID", "identifier (SOP Instance UID)"),
        ("SeriesInstanceUID", "series (Series Instance UID)"),
        ("StudyInstanceUID", "study (Study Instance UID)"),
        ("FrameOfReferenceUID", "frame of reference (Frame of Reference UID)"),
    ):
        if not all(word(one, name) for one in datasets):
            raise InputError(f"the DICOM image names no {said}, which DICOM SEG has to repeat. {_ELSE}")
        if name != "SOPInstanceUID" and len({word(one, name) for one in datasets}) > 1:
            raise InputError(f"the DICOM files do not belong to one {said}; give the files of one series. {_ELSE}")
    if len(datasets) > 1 and any(frame_count(one) > 1 for one in datasets):
        raise InputError(f"several files with many frames each cannot be one image. {_ELSE}")
    try:
        places = [place for one in datasets for place in places_of(one, "the DICOM image") or _nowhere()]
        grid = grid_of(places, (int(first.Columns), int(first.Rows)), "the DICOM image")
    except InputError as error:
        raise InputError(f"{error} {_ELSE}") from None
    if not grid.size.known:
        raise InputError(f"the DICOM image does not say how large its pixels are. {_ELSE}")
    stated = numbers(first, "SliceThickness")
    thickness = stated[0] if stated and stated[0] > 0 else places[0].distance or grid.geometry.spacing_mm[2]
    for one in datasets:
        if not getattr(one, "SliceThickness", None):  # may be missing, and highdicom reads it
            one.SliceThickness = f"{thickness:.10g}"
        for name in _MAY_BE_EMPTY:
            if name not in one:
                setattr(one, name, None)
    return DicomPlanes(datasets=tuple(datasets), order=grid.order, geometry=grid.geometry, thickness_mm=thickness)


def _nowhere() -> NoReturn:
    """Refuse an image without places."""
    raise InputError("the DICOM image has no position in the patient (a photograph, an ultrasound clip?).")
