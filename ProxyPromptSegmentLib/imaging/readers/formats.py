"""Which format a file has, by its content: those that are read, and the names of others for messages."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.paths import suffix_of
from ProxyPromptSegmentLib.imaging.readers.meta_image import read_meta
from ProxyPromptSegmentLib.imaging.readers.nifti import is_nifti, read_nifti
from ProxyPromptSegmentLib.imaging.readers.nrrd import read_nrrd
from ProxyPromptSegmentLib.imaging.readers.pictures import read_picture
from ProxyPromptSegmentLib.imaging.readers.stored import Stored

_PICTURES = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF",
    b"MM\0+": "TIFF", b"BM": "BMP",
}  # fmt: skip
_OTHERS = {
    b"GIF8": "a GIF picture",
    b"# vtk": "a VTK file",
    b"\x89HDF": "an HDF5 or MINC file",
    b"CDF": "a NetCDF or MINC file",
    b"PK": "a zip archive",
    b"%PDF": "a PDF document",
    b"RIFF": "a WebP picture or a video",
    b"Rar!": "an archive",
    b"7z\xbc": "an archive",
    b"<?xml": "an XML file",
    b"# === DATA DES": "a PAR/REC file of Philips",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
}
ALLOWED = "NRRD, NIfTI, MHA, DICOM, PNG, JPEG, TIFF and BMP"


def read_stored(path: Path) -> Stored:
    """Read an image file by its content, whatever its name.

    Raises:
        InputError: If it is another kind of file, damaged or cut short.
    """
    try:
        return _read(path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path.name} cannot be read ({reason}); check the disk and the file's permissions.") from None


def _read(path: Path) -> Stored:
    """Read a file by its first bytes."""
    if not path.is_file():
        raise InputError(f"{path} is no ordinary file; give an image file or a folder with a DICOM series.")
    with path.open("rb") as file:
        head = file.read(512)
    for start, kind in _PICTURES.items():
        if head.startswith(start):
            return read_picture(path, kind)
    if head.startswith(b"NRRD"):
        return read_nrrd(path)
    if is_nifti(head):
        return read_nifti(path)
    if head.startswith(b"\x1f\x8b"):
        return _read_packed(path)
    if b"=" in head and any(word in head.lower() for word in (b"ndims", b"objecttype")):
        return read_meta(path)
    other = next((words for start, words in _OTHERS.items() if head.startswith(start)), "")
    expected = {".nrrd": "NRRD", ".nhdr": "NRRD", ".nii": "NIfTI", ".nii.gz": "NIfTI", ".mha": "MHA", ".mhd": "MHA"}
    expected |= {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
    if not other and suffix_of(path) in expected:
        raise InputError(
            f"{path.name} cannot be read as an image; it may be damaged or cut short (it does not begin like "
            f"{expected[suffix_of(path)]}). Copy or export it again."
        )
    raise InputError(f"{path.name} is {other or 'not a supported image'}; supported are {ALLOWED}.")


def _read_packed(path: Path) -> Stored:
    """Read a gzip file, which should hold NIfTI."""
    try:
        with gzip.open(path) as file:
            head = file.read(4)
    except (OSError, EOFError, zlib.error):
        raise InputError(f"{path.name} is damaged: it cannot be unpacked. Copy or export it again.") from None
    if is_nifti(head):
        return read_nifti(path)
    raise InputError(f"{path.name} is packed (gzip) and holds no NIfTI image; supported are {ALLOWED}.")
