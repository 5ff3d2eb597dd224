"""Volumes: images with their geometry, read from NRRD, NIfTI, MetaImage, DICOM series and pictures."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.dicom.header import is_dicom
from ProxyPromptSegmentLib.imaging.dicom.reading import read_dicom
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.itk_images import (
    PICTURE_SUFFIXES,
    array_to_image,
    check_readable,
    write_image,
)
from ProxyPromptSegmentLib.imaging.output_files import check_output_path, safe_output
from ProxyPromptSegmentLib.imaging.paths import one_line, stem_of, suffix_of
from ProxyPromptSegmentLib.imaging.readers.detached import files_of_header
from ProxyPromptSegmentLib.imaging.readers.formats import read_stored
from ProxyPromptSegmentLib.imaging.readers.intensities import as_image
from ProxyPromptSegmentLib.imaging.readers.unchanged import unchanged

__all__ = [
    "PICTURE_SUFFIXES",
    "Volume",
    "array_to_image",
    "check_intensities",
    "check_output_path",
    "read_stored",
    "read_volume",
    "safe_output",
    "stem_of",
    "suffix_of",
    "write_image",
    "write_volume",
]

_log = logging.getLogger(__name__)
_EXACT = 1 << 24
"""Whole numbers up to here are exact in float32."""


@dataclass
class Volume:
    """An image with its geometry.

    Attributes:
        array: Intensities as acquired; float32, shape ``(K, J, I)``, or ``(K, J, I, 3)`` for RGB.
        geometry: The voxel grid; its shape equals the first three axes of the array.
        name: Name for messages, usually the file name without suffix.
        source: The file or folder it was read from, if any.
        has_spacing: Whether the pixel size is known; if not, that of the geometry has the right ratio at most.
        has_depth: Whether the distance of slices is, so that volumes can be stated in ml.
        modality: DICOM's word for the kind of image, as ``"CT"``; "" if the file does not say it.
        frame_of_reference: DICOM's identifier of the coordinates; "" if the file does not say it.

    Raises:
        InputError: If array and geometry have different shapes.
    """

    array: npt.NDArray[np.float32]
    geometry: VolumeGeometry
    name: str = "volume"
    source: Path | None = None
    has_spacing: bool = True
    has_depth: bool = True
    modality: str = ""
    frame_of_reference: str = ""

    def __post_init__(self) -> None:
        """Validate the shape and convert the array to float32."""
        self.array = np.asarray(self.array, dtype=np.float32)
        self.name = one_line(self.name)
        shape = self.array.shape
        if shape[:3] != self.geometry.shape_kji or shape[3:] not in ((), (3,)):
            raise InputError(
                f"{self.name} has an array of shape {shape} and a geometry of {self.geometry.shape_kji}; the array "
                "must have the geometry's (K, J, I), with 3 behind it for colour."
            )

    @property
    def is_rgb(self) -> bool:
        """Whether voxels have three colour channels."""
        return self.array.ndim == 4


def check_intensities(array: npt.NDArray[Any], name: str) -> None:
    """Reject intensities for which no window can be computed.

    Raises:
        InputError: If there are NaN or infinite values, or all values are equal.
    """
    wrong = int(array.size - np.count_nonzero(np.isfinite(array)))
    if wrong:
        raise InputError(
            f"{name} has NaN or infinite intensity in {wrong} of {array.size} voxels; replace them by numbers first."
        )
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if low == high:
        raise InputError(f"{name} has the same intensity ({low:g}) everywhere; there is nothing to segment in it.")


def read_volume(path: Path | str) -> Volume:
    """Read a volume from a file or DICOM folder.

    Args:
        path: An NRRD, NIfTI, MetaImage or picture file; a folder with one DICOM series; or one file of a
            series, which selects the whole series.

    Raises:
        InputError: If the file is missing, is not an image or cut short, has more than three dimensions or
            vectors as voxels, has axes that are not at right angles, or has NaN, infinite or constant
            intensity; or if a folder holds several series or none.
    """
    path = Path(path)
    check_readable(path)
    name = path.resolve().name if path.is_dir() else stem_of(path)
    # Values beyond float32 become infinite and are rejected.
    with unchanged(files_of_header(path), path.name), np.errstate(over="ignore"):
        if path.is_dir() or is_dicom(path):
            found = read_dicom(path)
            stored_values = found.array
            volume = Volume(
                stored_values.astype(np.float32),
                found.geometry,
                name,
                path,
                has_spacing=found.has_spacing,
                has_depth=found.has_depth,
                modality=found.modality,
                frame_of_reference=found.frame_of_reference,
            )
            notes = found.notes
        else:
            stored = read_stored(path)
            stored_values = as_image(stored, path.name, suffix_of(path) in PICTURE_SUFFIXES)
            volume = Volume(
                stored_values.astype(np.float32),
                stored.geometry,
                name,
                path,
                has_spacing=stored.has_spacing,
                has_depth=stored.has_spacing,
            )
            notes = stored.notes
        for note in notes:
            _log.warning("%s", note)
    check_intensities(volume.array, path.name)
    if steps := _rounded_to(stored_values, volume.array):
        _log.warning(
            "%s has values up to %.3g, which are rounded to steps of %.3g; subtract a constant first to keep all",
            path.name,
            float(volume.array.max()),
            steps,
        )
    return volume


def _rounded_to(stored: npt.NDArray[Any], values: npt.NDArray[np.float32]) -> float:
    """Return the steps to which float32 rounds whole numbers; 0 if it keeps all."""
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize < 4:
        return 0.0
    highest = np.float32(max(abs(int(stored.min())), abs(int(stored.max()))))
    if highest <= _EXACT or all(
        np.array_equal(one.astype(stored.dtype), other) for one, other in zip(values, stored, strict=True)
    ):
        return 0.0
    return float(np.spacing(highest))


def write_volume(path: Path | str, volume: Volume) -> None:
    """Write a volume as NRRD, NIfTI or MetaImage, float32 (RGB: 8 bits where they suffice).

    Raises:
        OutputError: If the file cannot be written; no partial file is left.
    """
    path = Path(path)
    check_output_path(path, (".nrrd", ".nii.gz", ".nii", ".mha"))
    array: npt.NDArray[Any] = volume.array
    if volume.is_rgb:
        array = np.clip(np.round(array), 0, 65535).astype(np.uint8 if array.max() <= 255 else np.uint16)
    with safe_output(path) as partial:
        write_image(partial, array_to_image(array, volume.geometry))
