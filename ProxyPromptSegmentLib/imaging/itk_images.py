"""Image files through SimpleITK: its error reports become readable messages, its silent failures are detected."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.paths import suffix_of

if TYPE_CHECKING:
    import SimpleITK as sitk

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Pictures have no position in the body: pixel size 1 mm, origin 0; their dots per inch are ignored."""


def check_readable(path: Path) -> None:
    """Refuse a path that cannot be read.

    Raises:
        InputError: If it does not exist, may not be read, or is empty.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give an image file or a folder with a DICOM series.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read by this user; change its permissions.")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); the file was not completely written or copied.")


def read_image(path: Path) -> sitk.Image:
    """Read a file with SimpleITK; failures become readable messages. DICOM is read elsewhere.

    Raises:
        InputError: If it cannot be read.
    """
    import SimpleITK as sitk

    check_readable(path)
    with quiet_itk():
        _check_complete(path)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
            return _collapse(reader, path)
        except RuntimeError as error:
            raise InputError(_reading_failed(path, error)) from None


def _collapse(reader: sitk.ImageFileReader, path: Path) -> sitk.Image:
    """Read the voxels of a file whose header was read; drop a fourth dimension of length 1."""
    size = [int(n) for n in reader.GetSize()]
    if len(size) > 3:
        if max(size[3:]) > 1:
            raise InputError(
                f"{path.name} has {len(size)} dimensions ({'x'.join(map(str, size))}); a volume has three. Export one "
                "time point or channel as a volume of its own."
            )
        reader.SetExtractSize(size[:3] + [0] * (len(size) - 3))
    return reader.Execute()


def _check_complete(path: Path) -> None:
    """Detect truncated NIfTI and JPEG files, which ITK reads without an error."""
    suffix = suffix_of(path)
    if suffix in (".nii", ".nii.gz"):
        opened = gzip.open if path.open("rb").read(2) == b"\x1f\x8b" else open
        try:
            with opened(path, "rb") as file:  # type: ignore[operator]
                header = file.read(352)
                if len(header) < 348:
                    return  # not NIfTI at all: ITK reports that itself
                order = "<" if header[:4] == (348).to_bytes(4, "little") else ">"
                dims = np.frombuffer(header, order + "i2", 8, 40)
                bits = int(np.frombuffer(header, order + "i2", 1, 72)[0])
                offset = int(np.frombuffer(header, order + "f4", 1, 108)[0])
                if (
                    header[:4] != np.array(348, order + "i4").tobytes()
                    or not 1 <= dims[0] <= 7
                    or header[344:346] == b"ni"
                ):
                    return
                needed = offset + int(np.prod(dims[1 : dims[0] + 1].astype(np.int64))) * bits // 8 - len(header)
                while needed > 0 and (block := file.read(min(needed, 1 << 22))):
                    needed -= len(block)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            needed = 1
        if needed > 0:
            raise InputError(f"{path.name} is cut short: voxels are missing at its end. Copy or export it again.")
    if suffix in (".jpg", ".jpeg"):
        data = path.read_bytes()
        if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-4096:]:
            raise InputError(f"{path.name} is cut short: the JPEG has no end. Copy or export it again.")


def _reading_failed(path: Path, error: RuntimeError) -> str:
    """Turn ITK's error report into a message for the user."""
    text = str(error)
    if "orthonormal" in text.lower():
        return (
            f"The axes of {path.name} are not at right angles (no orthonormal direction in its header); resample it "
            "to a regular grid first."
        )
    if "Unable to determine ImageIO reader" in text:
        return f"{path.name} is not a supported image; supported are NRRD, NIfTI, MHA, DICOM, PNG, JPEG and TIFF."
    lines = [line.strip() for line in text.splitlines() if line.strip() and "sitk::ERROR" not in line]
    detail = re.sub(r"\(0x[0-9a-f]+\)", "", lines[-1] if lines else "no reason given")[:160].rstrip(".")
    return (
        f"{path.name} cannot be read as an image; it may be damaged or cut short ({detail}). Copy or export it again."
    )


def image_to_array(image: sitk.Image, path: Path) -> tuple[npt.NDArray[Any], VolumeGeometry]:
    """Return the voxels ``(K, J, I[, 3])`` in their stored type, and the geometry.

    Raises:
        InputError: If voxels are vectors or complex, or the axes are not orthogonal.
    """
    import SimpleITK as sitk

    kind = image.GetPixelIDTypeAsString()
    channels = image.GetNumberOfComponentsPerPixel()
    picture = suffix_of(path) in PICTURE_SUFFIXES
    whole = "8-bit unsigned" in kind or "16-bit unsigned" in kind
    if "complex" in kind or (channels > 1 and not (whole and (channels == 3 or (picture and channels in (2, 4))))):
        raise InputError(
            f"{path.name} has {channels} values per voxel ({kind}); one intensity or the three colours of 8 or 16 "
            "bits are allowed. Export the one channel to be segmented."
        )
    array = sitk.GetArrayFromImage(image)
    if channels in (2, 4):  # the transparency of a picture is not an intensity
        array = array[..., 0] if channels == 2 else array[..., :3]
    if image.GetDimension() == 2:
        array = array[None]
    size = (array.shape[2], array.shape[1], array.shape[0])
    if picture:
        return array, VolumeGeometry(size)
    direction = np.eye(3)
    n = image.GetDimension()
    direction[:n, :n] = np.array(image.GetDirection()).reshape(n, n)
    spacing, origin = [*image.GetSpacing(), 1.0], [*image.GetOrigin(), 0.0]
    try:
        geometry = VolumeGeometry(
            size, (spacing[0], spacing[1], spacing[2]), (origin[0], origin[1], origin[2]), direction
        )
    except GeometryError as error:
        raise InputError(f"{path.name}: {error}") from None
    return array, geometry


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
            _check_complete(partial)
            back = sitk.ReadImage(str(partial))  # keep a reference: the view below does not own its memory
        except (RuntimeError, InputError) as error:
            raise OSError(f"the image writer failed ({_reason(error)})") from None
    found, expected = sitk.GetArrayViewFromImage(back), sitk.GetArrayViewFromImage(image)
    if found.size != expected.size or not np.array_equal(found.reshape(expected.shape), expected):
        raise OSError("the file on the disk differs from what was written")


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
