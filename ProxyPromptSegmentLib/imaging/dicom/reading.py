"""A DICOM image as a volume: its values, its grid, and what the user should know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.dicom.header import (
    burned_in,
    check_image,
    damage_in_words,
    frame_count,
    is_dicom,
    read_dataset,
    word,
)
from ProxyPromptSegmentLib.imaging.dicom.pixels import read_pixels
from ProxyPromptSegmentLib.imaging.dicom.places import Grid, are_at_one_place, grid_of, places_of
from ProxyPromptSegmentLib.imaging.dicom.series import Series, check_sizes, files_of, series_of
from ProxyPromptSegmentLib.imaging.dicom.spacing import PixelSize, pixel_size, slice_distance
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.readers.unchanged import changed, unchanged


@dataclass(frozen=True, kw_only=True)
class DicomImage:
    """What `read_dicom` returns.

    Attributes:
        array: ``(K, J, I)`` or ``(K, J, I, 3)``, as `read_pixels` gives them.
        geometry: The grid, in LPS.
        has_spacing: Whether its pixels have a size in mm.
        has_depth: Whether its slices have one.
        notes: Sentences for the user.
        modality: The word for the kind of image, as ``"CT"``; "" if it is missing.
        frame_of_reference: The identifier of the coordinates, which images of one patient position share; "" if none.
    """

    array: npt.NDArray[Any]
    geometry: VolumeGeometry
    has_spacing: bool
    has_depth: bool
    notes: tuple[str, ...]
    modality: str
    frame_of_reference: str


def read_dicom(source: Path) -> DicomImage:
    """Read the image in a folder, or the one that a file belongs to.

    Raises:
        InputError: If there is none or several, it is a clip, or its slices form no volume.
    """
    with damage_in_words(source.name):
        there = files_of(source) if source.is_dir() else []
        series = series_of(source)
        with unchanged(series.files, source.name):
            found = _read(series)
        if source.is_dir() and any(is_dicom(file) for file in files_of(source) if file not in there):
            raise changed(source.name)  # slices still arrive
        return found


def _read(series: Series) -> DicomImage:
    """Return the image of a series."""
    for file, header in zip(series.files, series.headers, strict=True):
        check_image(header, file.name)
    title = series.files[0].name if len(series.files) == 1 else f"The DICOM series in {series.files[0].parent}"
    if len(series.files) == 1:
        return _of_one_file(series, title)
    if any(frame_count(header) > 1 for header in series.headers):
        raise InputError(f"{title} has {len(series.files)} files, some of several frames; give one of them.")
    check_sizes(series, title)
    places = [places_of(header, file.name) for file, header in zip(series.files, series.headers, strict=True)]
    if any(place is None for place in places):
        without = sum(place is None for place in places)
        raise InputError(
            f"{title} has {without} of {len(places)} images without a position in the patient, so that they form no "
            "volume; give one of them."
        )
    grid = grid_of([place[0] for place in places if place], _size(series.headers[0]), title)
    array = np.stack([_one(series.files[n]) for n in grid.order])
    return _image(array, grid, series, title)


def _one(file: Path) -> npt.NDArray[Any]:
    """Return the values of a file with one frame, ``(J, I[, 3])``."""
    frame: npt.NDArray[Any] = read_pixels(read_dataset(file, pixels=True), file.name)[0]
    return frame


def _of_one_file(series: Series, title: str) -> DicomImage:
    """Return the image of a single file, with one frame or with many."""
    header, frames = series.headers[0], frame_count(series.headers[0])
    places = places_of(header, title)
    if frames > 1 and (places is None or are_at_one_place(places)):
        raise InputError(
            f"{title} has {frames} frames without places of their own: a clip, or several images of one slice. Track "
            "it as frames, or export one image of it."
        )
    grid = None if places is None else grid_of(places, _size(header), title, "slices" if frames == 1 else "frames")
    array = read_pixels(read_dataset(series.files[0], pixels=True), title)
    if grid is not None:
        return _image(array[list(grid.order)], grid, series, title)
    size, depth = pixel_size(header, header, title), slice_distance(header, header)
    columns, rows = _size(header)
    geometry = VolumeGeometry((columns, rows, 1), (size.column_mm, size.row_mm, depth or 1.0))
    return DicomImage(
        array=array,
        geometry=geometry,
        has_spacing=size.known,
        has_depth=size.known and depth is not None,
        notes=_notes(size, series, title),
        modality=word(header, "Modality").upper(),
        frame_of_reference="",
    )


def _image(array: npt.NDArray[Any], grid: Grid, series: Series, title: str) -> DicomImage:
    """Return values in the order of a grid as an image."""
    return DicomImage(
        array=array,
        geometry=grid.geometry,
        has_spacing=grid.size.known,
        has_depth=grid.has_depth,
        notes=_notes(grid.size, series, title),
        modality=word(series.headers[0], "Modality").upper(),
        frame_of_reference=word(series.headers[0], "FrameOfReferenceUID"),
    )


def _size(header: Any) -> tuple[int, int]:
    """Return columns and rows."""
    return int(header.Columns), int(header.Rows)


def _notes(size: PixelSize, series: Series, title: str) -> tuple[str, ...]:
    """Return what there is to say about the pixels and their size."""
    notes = [note for note in [burned_in(series.headers, title)] if note]
    if size.note:
        notes.append(f"{title} {size.note}.")
    elif not size.known:
        notes.append(f"{title} does not say how large its pixels are; results are in pixels, not in mm.")
    return tuple(notes)
