"""The planes of a DICOM image: which instance or frame shows which slice, and their grid; read through pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, InputError, OutputError
from ProxyPromptSegmentLib.imaging.dicom_series import series_files
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_UNEVEN = 0.1  # of the slice spacing, as for reading a series as a volume
_TURNED = 1e-3  # of the direction cosines
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
    if source is not None and source.is_dir():
        return series_files(source, None)
    if source is None or not is_dicom(source):
        raise not_from_dicom("" if source is None else source.name)
    return series_files(source.parent, source)


def not_from_dicom(name: str) -> OutputError:
    """Return the error for an image that DICOM SEG cannot refer to."""
    return OutputError(
        f"{name or 'The image'} was not read from DICOM, and DICOM SEG has to name the DICOM images that it belongs "
        "to. Segment the DICOM series itself, or write the result as .seg.nrrd."
    )


def is_dicom(file: Path) -> bool:
    """Return whether a file starts like DICOM."""
    try:
        with file.open("rb") as opened:
            return opened.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_planes(files: Sequence[str | Path]) -> DicomPlanes:
    """Read the headers of an image's files.

    Raises:
        InputError: If a file cannot be read, or the planes have no position or form no volume.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    datasets = []
    for file in files:
        try:
            datasets.append(pydicom.dcmread(file, stop_before_pixels=True))
        except (InvalidDicomError, OSError, ValueError, KeyError) as error:
            raise InputError(f"{Path(file).name} cannot be read as DICOM ({error}). Export the series again.") from None
    if not datasets:
        raise InputError("the image has no DICOM files; segment the DICOM series itself.")
    first = datasets[0]
    for name, said in (
        ("SOPInstanceUID", "identifier (SOP Instance UID)"),
        ("SeriesInstanceUID", "series (Series Instance UID)"),
        ("StudyInstanceUID", "study (Study Instance UID)"),
        ("FrameOfReferenceUID", "frame of reference (Frame of Reference UID)"),
    ):
        if not all(str(getattr(one, name, "") or "") for one in datasets):
            raise InputError(f"the DICOM image names no {said}, which DICOM SEG has to repeat. {_ELSE}")
        if name != "SOPInstanceUID" and len({str(getattr(one, name)) for one in datasets}) > 1:
            raise InputError(f"the DICOM files do not belong to one {said}; give the files of one series. {_ELSE}")
    frames = int(getattr(first, "NumberOfFrames", 1) or 1)
    if len(datasets) == 1 and frames > 1:
        places = [_place(_frame(first, number), first) for number in range(frames)]
    elif frames > 1:
        raise InputError(f"several files with many frames each cannot be one image. {_ELSE}")
    else:
        places = [_place(one, one) for one in datasets]
    order, geometry = _grid(places, (int(first.Columns), int(first.Rows)))
    thickness = places[0].thickness or geometry.spacing_mm[2]
    for one in datasets:
        if not getattr(one, "SliceThickness", None):  # may be missing, and highdicom reads it
            one.SliceThickness = f"{thickness:.10g}"
    return DicomPlanes(datasets=tuple(datasets), order=order, geometry=geometry, thickness_mm=thickness)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a plane lies: the centre of its first pixel, its directions and pixel sizes, in LPS mm."""

    origin: npt.NDArray[np.float64]
    column: npt.NDArray[np.float64]
    row: npt.NDArray[np.float64]
    spacing: tuple[float, float]
    thickness: float


def _frame(dataset: Dataset, number: int) -> Dataset:
    """Return the attributes of a frame's plane, from its own groups or those that all frames share."""
    from pydicom.dataset import Dataset

    found = Dataset()
    try:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        own = dataset.PerFrameFunctionalGroupsSequence[number]
    except (AttributeError, IndexError):
        raise InputError(f"the frames of the DICOM image have no positions. {_ELSE}") from None
    for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
        group = getattr(own, name, None) or getattr(shared, name, None)
        for element in group[0] if group else ():
            found.add(element)
    return found


def _place(plane: Dataset, whole: Dataset) -> _Place:
    """Return the place of a plane.

    Raises:
        InputError: If it has none.
    """
    try:
        cosines = np.array([float(x) for x in plane.ImageOrientationPatient]).reshape(2, 3)
        origin = np.array([float(x) for x in plane.ImagePositionPatient]).reshape(3)
        down, right = (float(x) for x in plane.PixelSpacing)
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            f"the DICOM image has no position in the patient (a photograph, an ultrasound clip?). {_ELSE}"
        ) from None
    thickness = float(getattr(plane, "SliceThickness", None) or 0)
    return _Place(origin=origin, column=cosines[0], row=cosines[1], spacing=(right, down), thickness=thickness)


def _grid(places: list[_Place], size: tuple[int, int]) -> tuple[tuple[int, ...], VolumeGeometry]:
    """Return the order of the planes along their normal, and the grid that they form.

    Raises:
        InputError: If they are turned against each other or unevenly spaced.
    """
    first = places[0]
    if any(
        np.abs(one.column - first.column).max() > _TURNED
        or np.abs(one.row - first.row).max() > _TURNED
        or not np.allclose(one.spacing, first.spacing, rtol=1e-3)
        for one in places
    ):
        raise InputError(f"the slices of the DICOM image have several orientations or pixel sizes. {_ELSE}")
    normal = np.cross(first.column, first.row)
    along = np.array([float(normal @ one.origin) for one in places])
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    step = float(along.max() - along.min()) / (len(places) - 1) if len(places) > 1 else first.thickness or 1.0
    if len(places) > 1 and (step <= 1e-4 or np.abs(gaps - step).max() > _UNEVEN * step):
        raise InputError(f"the slices of the DICOM image are not evenly spaced. {_ELSE}")
    start, end = places[int(order[0])].origin, places[int(order[-1])].origin
    through = (end - start) / (len(places) - 1) if len(places) > 1 else normal * step
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = first.column * first.spacing[0], first.row * first.spacing[1], through
    affine[:3, 3] = start
    try:
        geometry = VolumeGeometry.from_affine(affine, (*size, len(places)))
    except GeometryError as error:
        raise InputError(f"{error} {_ELSE}") from None
    return tuple(int(n) for n in order), geometry
