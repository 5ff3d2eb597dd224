"""Reading images into volumes: NRRD, NIfTI, MetaImage, DICOM series, and pictures as volumes of one slice."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import GeometryError, InputError, OutputError
from .geometry import VolumeGeometry

if TYPE_CHECKING:
    import SimpleITK as sitk

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Pictures carry no place in the body: pixel size 1 mm, origin 0; a resolution in dots per inch is not believed."""

_SUFFIXES = (".seg.nrrd", ".seg.nhdr", ".nii.gz")
_SLICE_GAP_TOLERANCE = 0.1  # of a slice distance: beyond this a slice is missing or the distance changes


@dataclass
class Volume:
    """An image with a place.

    Attributes:
        array: Intensities as acquired; float32, shape ``(K, J, I)``, or ``(K, J, I, 3)`` for RGB.
        geometry: The lattice; its shape is the first three of the array.
        name: What to call it, usually the file's name without suffix.
        source: The file or folder that it was read from, if any.

    Raises:
        InputError: If array and geometry have different shapes.
    """

    array: npt.NDArray[np.float32]
    geometry: VolumeGeometry
    name: str = "volume"
    source: Path | None = None

    def __post_init__(self) -> None:
        """Checks the shape and makes the array float32."""
        self.array = np.asarray(self.array, dtype=np.float32)
        shape = self.array.shape
        if shape[:3] != self.geometry.shape_kji or shape[3:] not in ((), (3,)):
            raise InputError(
                f"{self.name} has an array of shape {shape} and a geometry of {self.geometry.shape_kji}; the array "
                "must have the geometry's (K, J, I), with 3 behind it for colour."
            )

    @property
    def is_rgb(self) -> bool:
        """Whether voxels have three colours."""
        return self.array.ndim == 4


def check_intensities(array: npt.NDArray[Any], name: str) -> None:
    """Refuses intensities that no window can be laid over.

    Raises:
        InputError: If there are NaN or infinite values, or all are the same.
    """
    wrong = int(array.size - np.count_nonzero(np.isfinite(array)))
    if wrong:
        raise InputError(
            f"{name} has NaN or infinite intensity in {wrong} of {array.size} voxels; replace them by numbers first."
        )
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if low == high:
        raise InputError(f"{name} has the same intensity ({low:g}) everywhere; there is nothing to segment in it.")


def stem_of(path: Path) -> str:
    """The file's name without ``.nii.gz``, ``.seg.nrrd`` or its one suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def suffix_of(path: Path) -> str:
    """The suffix in lower case, with double ones such as ``.nii.gz`` and ``.seg.nrrd`` kept whole."""
    lower = path.name.lower()
    return next((s for s in _SUFFIXES if lower.endswith(s)), path.suffix.lower())


def read_volume(path: Path | str) -> Volume:
    """Reads an image.

    Args:
        path: An NRRD, NIfTI, MetaImage or picture file; a folder with one DICOM series; or one file of a series,
            which stands for the whole series.

    Raises:
        InputError: If the file is missing, is not an image or cut short, has more than three dimensions or vectors
            as voxels, has axes that are not at right angles, or has NaN, infinite or constant intensity; or if a
            folder holds several series or none.
    """
    path = Path(path)
    image = read_image(path)
    array, geometry = image_to_array(image, path)
    name = path.resolve().name if path.is_dir() else stem_of(path)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused
        volume = Volume(array.astype(np.float32), geometry, name, path)
    check_intensities(volume.array, path.name)
    return volume


def read_image(path: Path) -> sitk.Image:
    """Reads a file or DICOM series with SimpleITK; its messages become sentences.

    Raises:
        InputError: If that is not possible.
    """
    import SimpleITK as sitk

    if not path.exists():
        raise InputError(f"{path} does not exist; give an image file or a folder with a DICOM series.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read by this user; change its permissions.")
    with _quiet_itk():
        if path.is_dir():
            return _read_series(path, None)
        if path.stat().st_size == 0:
            raise InputError(f"{path.name} is empty (0 bytes); the file was not completely written or copied.")
        _check_complete(path)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
            if "GDCM" in (reader.GetImageIO() or sitk.ImageFileReader.GetImageIOFromFileName(str(path))):
                return _read_series(path.parent, path)
            return _collapse(reader, path)
        except RuntimeError as error:
            raise InputError(_reading_failed(path, error)) from None


def _collapse(reader: sitk.ImageFileReader, path: Path) -> sitk.Image:
    """Reads a file whose header was read; a fourth dimension of length 1 is dropped."""
    size = [int(n) for n in reader.GetSize()]
    if len(size) > 3:
        if max(size[3:]) > 1:
            raise InputError(
                f"{path.name} has {len(size)} dimensions ({'x'.join(map(str, size))}); a volume has three. Export one "
                "time point or channel as a volume of its own."
            )
        reader.SetExtractSize(size[:3] + [0] * (len(size) - 3))
    return reader.Execute()


def _read_series(folder: Path, member: Path | None) -> sitk.Image:
    """Reads the one DICOM series of a folder, or the series that a file belongs to."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    ids = list(reader.GetGDCMSeriesIDs(str(folder)))
    series = {uid: list(reader.GetGDCMSeriesFileNames(str(folder), uid)) for uid in ids}
    if member is not None:
        wanted = member.resolve()
        files = next((fs for fs in series.values() if any(Path(f).resolve() == wanted for f in fs)), [str(member)])
    elif not series:
        raise InputError(
            f"The folder {folder} holds no DICOM series; give the folder in which the DICOM files themselves lie."
        )
    elif len(series) > 1:
        listed = "; ".join(_describe_series(files) for files in series.values())
        raise InputError(
            f"The folder {folder} holds {len(series)} DICOM series: {listed}. Give one file of the series that you mean."
        )
    else:
        files = next(iter(series.values()))
    try:
        if len(files) == 1:
            single = sitk.ImageFileReader()
            single.SetFileName(files[0])
            single.ReadImageInformation()
            return _collapse(single, Path(files[0]))
        _check_positions(files, folder)
        reader.SetFileNames(files)
        return reader.Execute()
    except RuntimeError as error:
        raise InputError(_reading_failed(member or folder, error)) from None


def _tags(file: str) -> sitk.ImageFileReader:
    """A reader that has read the DICOM header of a file."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.SetImageIO("GDCMImageIO")
    reader.ReadImageInformation()
    return reader


def _describe_series(files: list[str]) -> str:
    """Description, number of files and first file of a series, for a message."""
    with suppress(RuntimeError):
        reader = _tags(files[0])
        for tag in ("0008|103e", "0018|1030", "0020|0011"):
            if reader.HasMetaDataKey(tag) and reader.GetMetaData(tag).strip():
                words = reader.GetMetaData(tag).encode("utf-8", "replace").decode().strip(" \0")
                return f'"{words}" ({len(files)} files, e.g. {Path(files[0]).name})'
    return f"unnamed ({len(files)} files, e.g. {Path(files[0]).name})"


def _check_positions(files: list[str], folder: Path) -> None:
    """Refuses series whose slices are not evenly spaced: ITK would place them wrongly and only warn."""
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
            f"{len(np.unique(np.round(along, 3)))} places): a sequence in time or several contrasts. Export one of them "
            "as a volume of its own."
        )
    if np.abs(gaps - typical).max() > _SLICE_GAP_TOLERANCE * typical:
        place = int(np.abs(gaps - typical).argmax())
        raise InputError(
            f"The slices of the DICOM series in {folder} are not evenly spaced: {typical:.3g} mm usually, "
            f"{gaps[place]:.3g} mm after slice {place + 1} of {len(files)}. Files are missing, or the stack has to be "
            "resampled to even distances."
        )


def _check_complete(path: Path) -> None:
    """Finds the truncations that ITK reads without a word: NIfTI and JPEG."""
    suffix = suffix_of(path)
    if suffix in (".nii", ".nii.gz"):
        opened = gzip.open if path.open("rb").read(2) == b"\x1f\x8b" else open
        try:
            with opened(path, "rb") as file:  # type: ignore[operator]
                header = file.read(352)
                if len(header) < 348:
                    return  # no NIfTI at all: ITK finds its own words
                order = "<" if header[:4] == (348).to_bytes(4, "little") else ">"
                dims = np.frombuffer(header, order + "i2", 8, 40)
                bits = int(np.frombuffer(header, order + "i2", 1, 72)[0])
                offset = int(np.frombuffer(header, order + "f4", 1, 108)[0])
                if header[:4] != np.array(348, order + "i4").tobytes() or not 1 <= dims[0] <= 7 or header[344:346] == b"ni":
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
    """A sentence in place of ITK's report."""
    text = str(error)
    if "orthonormal" in text.lower():
        return (
            f"The axes of {path.name} are not at right angles (no orthonormal direction in its header); resample it to "
            "a regular grid first."
        )
    if "Unable to determine ImageIO reader" in text:
        return f"{path.name} is not an image that can be read; NRRD, NIfTI, MHA, DICOM, PNG, JPEG and TIFF can."
    lines = [line.strip() for line in text.splitlines() if line.strip() and "sitk::ERROR" not in line]
    detail = re.sub(r"\(0x[0-9a-f]+\)", "", lines[-1] if lines else "no reason given")[:160].rstrip(".")
    return f"{path.name} cannot be read as an image; it may be damaged or cut short ({detail}). Copy or export it again."


def image_to_array(image: sitk.Image, path: Path) -> tuple[npt.NDArray[Any], VolumeGeometry]:
    """The voxels ``(K, J, I[, 3])`` in their own type, and the lattice.

    Raises:
        InputError: If voxels are vectors or complex, or the axes are not at right angles.
    """
    import SimpleITK as sitk

    kind = image.GetPixelIDTypeAsString()
    channels = image.GetNumberOfComponentsPerPixel()
    picture = suffix_of(path) in PICTURE_SUFFIXES
    whole = "8-bit unsigned" in kind or "16-bit unsigned" in kind
    if "complex" in kind or (channels > 1 and not (whole and (channels == 3 or (picture and channels in (2, 4))))):
        raise InputError(
            f"{path.name} has {channels} values per voxel ({kind}); one intensity or the three colours of 8 or 16 bits "
            "are allowed. Export the one channel to be segmented."
        )
    array = sitk.GetArrayFromImage(image)
    if channels in (2, 4):  # transparency of a picture is no intensity
        array = array[..., 0] if channels == 2 else array[..., :3]
    if image.GetDimension() == 2:
        array = array[None]
    size = (array.shape[2], array.shape[1], array.shape[0])
    if picture:
        return array, VolumeGeometry(size)
    direction = np.eye(3)
    n = image.GetDimension()
    direction[:n, :n] = np.array(image.GetDirection()).reshape(n, n)
    spacing, origin = list(image.GetSpacing()) + [1.0], list(image.GetOrigin()) + [0.0]
    try:
        geometry = VolumeGeometry(size, tuple(spacing[:3]), tuple(origin[:3]), direction)  # type: ignore[arg-type]
    except GeometryError as error:
        raise InputError(f"{path.name}: {error}") from None
    return array, geometry


def array_to_image(array: npt.NDArray[Any], geometry: VolumeGeometry) -> sitk.Image:
    """A SimpleITK image of voxels ``(K, J, I[, 3])`` at the place that the geometry gives."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=array.ndim == 4)
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_lps)
    image.SetDirection([float(x) for x in geometry.direction.ravel()])
    return image


def write_volume(path: Path | str, volume: Volume) -> None:
    """Writes a volume as NRRD, NIfTI or MetaImage, float32 (RGB: 8 bits where they suffice).

    Raises:
        OutputError: If the file cannot be written; nothing half-written stays.
    """
    path = Path(path)
    check_output_path(path, (".nrrd", ".nii.gz", ".nii", ".mha"))
    array: npt.NDArray[Any] = volume.array
    if volume.is_rgb:
        array = np.clip(np.round(array), 0, 65535).astype(np.uint8 if array.max() <= 255 else np.uint16)
    with safe_output(path) as partial:
        write_image(partial, array_to_image(array, volume.geometry))


def write_image(partial: Path, image: sitk.Image) -> None:
    """Writes an image and reads it back: writers can fail on a full disk without a word.

    Raises:
        OSError: If the file could not be written, or what is on the disk is not what was written.
    """
    import SimpleITK as sitk

    with _quiet_itk():
        try:
            sitk.WriteImage(image, str(partial), useCompression=True)
            _check_complete(partial)
            back = sitk.ReadImage(str(partial))  # kept: the view below does not own its memory
        except (RuntimeError, InputError) as error:
            raise OSError(f"the image writer failed ({_reason(error)})") from None
    found, expected = sitk.GetArrayViewFromImage(back), sitk.GetArrayViewFromImage(image)
    if found.size != expected.size or not np.array_equal(found.reshape(expected.shape), expected):
        raise OSError("the file on the disk differs from what was written")


def _reason(error: Exception) -> str:
    """The last line of a report, short and without addresses or the temporary file's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"\(0x[0-9a-f]+\)|\S*\.partial-\S*", "", lines[-1] if lines else "no reason given")[:120].strip()


def check_output_path(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuses a result file that could never be written; to be called before long work.

    Raises:
        OutputError: If the suffix is not known, or the folder is missing or not writable.
    """
    if suffix_of(path) not in suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"{path.name} has no suffix of a result that can be written; allowed: {', '.join(suffixes)}.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file in it.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist; make it or choose another for {path.name}.")
    if not os.access(path.parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OutputError(f"{path} may not be written by this user; change the permissions or choose another folder.")


@contextmanager
def safe_output(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside ``path``; moves it into place when the block ends well, removes it otherwise.

    The temporary name ends with the same suffix, by which writers choose the format.

    Raises:
        OutputError: If the block or the move raises OSError; an earlier file at ``path`` is then untouched.
    """
    partial = path.with_name(f".{stem_of(path)[:60]}.partial-{uuid.uuid4().hex[:8]}{suffix_of(path)}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(_writing_failed(path, error)) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _writing_failed(path: Path, error: OSError) -> str:
    """A sentence for a failed write, with the free space where it may be the cause."""
    reason = error.strerror or str(error)
    free = ""
    with suppress(OSError):
        left = shutil.disk_usage(path.parent).free
        free = f" {left / 2**20:.0f} MiB are free there." if left < 2**30 else ""
    return (
        f"{path} could not be written: {reason}.{free} Nothing half-written was left; free space or choose another folder."
    )


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """Keeps ITK's C++ warnings from the terminal; what matters is said in our own sentences."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
