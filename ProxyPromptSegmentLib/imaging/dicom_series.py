"""DICOM series: which files belong together, and whether their slices form a volume."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import InputError

if TYPE_CHECKING:
    import SimpleITK as sitk

_SLICE_GAP_TOLERANCE = 0.1  # of the slice spacing: beyond this a slice is missing or the spacing changes


def series_files(folder: Path, member: Path | None) -> list[str]:
    """Return the files of a folder's only series, or of the series that a file belongs to, in slice order.

    Args:
        folder: The folder that contains the files.
        member: A file of the wanted series; None if the folder should contain only one series.

    Raises:
        InputError: If the folder contains no series or several, or the slices are not evenly spaced.
    """
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    ids = list(reader.GetGDCMSeriesIDs(str(folder)))
    series = {uid: list(reader.GetGDCMSeriesFileNames(str(folder), uid)) for uid in ids}
    if member is not None:
        wanted = member.resolve()
        files = next((fs for fs in series.values() if any(Path(f).resolve() == wanted for f in fs)), [str(member)])
    elif not series:
        raise InputError(
            f"The folder {folder} contains no DICOM series; give the folder that directly contains the DICOM files."
        )
    elif len(series) > 1:
        listed = "; ".join(_describe_series(files) for files in series.values())
        raise InputError(
            f"The folder {folder} contains {len(series)} DICOM series: {listed}. Give one file of the series you want."
        )
    else:
        files = next(iter(series.values()))
    if len(files) > 1:
        _check_positions(files, folder)
    return files


def _tags(file: str) -> sitk.ImageFileReader:
    """Read the DICOM header of a file and return the reader."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.SetImageIO("GDCMImageIO")
    reader.ReadImageInformation()
    return reader


def _describe_series(files: list[str]) -> str:
    """Describe a series for a message: description, number of files and first file."""
    with suppress(RuntimeError):
        reader = _tags(files[0])
        for tag in ("0008|103e", "0018|1030", "0020|0011"):
            if reader.HasMetaDataKey(tag) and reader.GetMetaData(tag).strip():
                words = reader.GetMetaData(tag).encode("utf-8", "replace").decode().strip(" \0")
                return f'"{words}" ({len(files)} files, e.g. {Path(files[0]).name})'
    return f"unnamed ({len(files)} files, e.g. {Path(files[0]).name})"


def _check_positions(files: list[str], folder: Path) -> None:
    """Reject a series whose slices are not evenly spaced: ITK would misplace them and only log a warning."""
    headers = [_tags(file) for file in files]
    if len({tuple(np.round(h.GetDirection(), 3)) + h.GetSize()[:2] for h in headers}) > 1:
        raise InputError(
            f"The DICOM series in {folder} mixes slices of several orientations or sizes (a localizer?); a volume has "
            "one. Export the stack that you mean as a volume of its own."
        )
    normal = np.array(headers[0].GetDirection()).reshape(3, 3)[:, 2]
    along = np.sort([float(np.dot(normal, h.GetOrigin())) for h in headers])
    gaps = np.diff(along)
    typical = float(np.median(gaps))
    if typical <= 1e-4 or np.any(gaps <= 1e-4):
        raise InputError(
            f"The DICOM series in {folder} has several images at the same place ({len(files)} files, "
            f"{len(np.unique(np.round(along, 3)))} places): a sequence in time or several contrasts. Export one of "
            "them as a volume of its own."
        )
    if np.abs(gaps - typical).max() > _SLICE_GAP_TOLERANCE * typical:
        place = int(np.abs(gaps - typical).argmax())
        raise InputError(
            f"The slices of the DICOM series in {folder} are not evenly spaced: {typical:.3g} mm usually, "
            f"{gaps[place]:.3g} mm after slice {place + 1} of {len(files)}. Files are missing, or the stack has to be "
            "resampled to even distances."
        )
