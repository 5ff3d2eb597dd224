"""Image files written through SimpleITK: its error reports become messages, its silent failures are detected."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.paths import not_there, suffix_of
from ProxyPromptSegmentLib.imaging.readers.formats import read_stored

if TYPE_CHECKING:
    import SimpleITK as sitk

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Pictures have no position in the body: pixel size 1 mm, origin 0; their dots per inch are ignored."""


def check_readable(path: Path) -> None:
    """Refuse a path that cannot be read.

    Raises:
        InputError: If it does not exist, may not be read, or is empty.
    """
    try:
        there = path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise InputError(f"{path.name[:80]} cannot be opened ({error.strerror or error}); check its name.") from None
    if not there:
        raise InputError(not_there(path, "an image file or a folder with a DICOM series"))
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read by this user; change its permissions.")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); the file was not completely written or copied.")


def array_to_image(array: npt.NDArray[Any], geometry: VolumeGeometry) -> sitk.Image:
    """Return voxels ``(K, J, I[, 3])`` as a SimpleITK image with the given geometry."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=array.ndim == 4)
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_lps)
    image.SetDirection([float(x) for x in geometry.direction.ravel()])
    return image


def write_image(partial: Path, image: sitk.Image) -> None:
    """Write an image and read it back, because writers can fail silently on a full disk.

    Raises:
        OSError: If the file could not be written, or its content differs from what was written.
    """
    import SimpleITK as sitk

    with quiet_itk():
        try:
            sitk.WriteImage(image, str(partial), useCompression=True)
            back = read_stored(partial)
        except InputError:  # its advice is for files that a user gave
            raise OSError("what was written cannot be read back") from None
        except RuntimeError as error:
            raise OSError(f"the image writer failed ({_reason(error)})") from None
    expected = sitk.GetArrayViewFromImage(image)
    if back.array.size != expected.size or not np.array_equal(back.array.reshape(expected.shape), expected):
        raise OSError("the file on the disk differs from what was written")
    if image.GetDimension() == 3 and suffix_of(partial) not in PICTURE_SUFFIXES:
        size, spacing, origin = image.GetSize(), image.GetSpacing(), image.GetOrigin()
        grid = VolumeGeometry((size[0], size[1], size[2]), (spacing[0], spacing[1], spacing[2]),
                              (origin[0], origin[1], origin[2]), np.array(image.GetDirection()))  # fmt: skip
        if not back.geometry.is_close(grid):  # as a host program's locale with commas makes the writer do
            raise OSError("the image writer stored another spacing or place")


def _reason(error: Exception) -> str:
    """Return the last line of an error report, shortened, without addresses or the temporary file's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"\(0x[0-9a-f]+\)|\S*\.partial-\S*", "", lines[-1] if lines else "no reason given")[:120].strip()


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Silence ITK's C++ warnings; everything relevant is reported in our own messages."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
