"""Packed pixels for which pydicom has no decoder here (lossless JPEG), through GDCM, which ITK brings along.

GDCM sees a file with nothing in it but the pixels and their form, so that none of its assumptions about geometry,
values and colours apply.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.dicom.header import frame_count
from ProxyPromptSegmentLib.imaging.readers.jpeg import cut_short, lengthened

_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", *_LOSSLESS)
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_FORM = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip


def decode_with_itk(dataset: Any, name: str) -> npt.NDArray[Any]:
    """Return the stored values ``(F, rows, columns[, 3])``.

    GDCM fills what is missing of a JPEG, so that it decodes lossless ones a second time with more bytes behind each
    part. It refuses such bytes behind 12 bits with losses, of which the markers are checked alone.

    Raises:
        InputError: If GDCM cannot decode them, returns another shape than declared, or a JPEG is cut short.
    """
    from pydicom.encaps import encapsulate, generate_frames

    array = _decoded(dataset, dataset.PixelData, name)
    if dataset.file_meta.TransferSyntaxUID in _JPEG:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=frame_count(dataset)))
        longer = encapsulate([lengthened(one, name) for one in frames])
        lossless = dataset.file_meta.TransferSyntaxUID in _LOSSLESS
        if lossless and not np.array_equal(array, _decoded(dataset, longer, name)):
            raise cut_short(name)
    return array


@contextmanager
def _temporary_folder(name: str) -> Iterator[Path]:
    """Yield a folder that is removed afterwards.

    Raises:
        InputError: If nothing can be written there.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    except OSError as error:
        raise InputError(
            f"the pixels of {name} are unpacked in a temporary folder, which cannot be written "
            f"({error.strerror or error}). Free up space there, or name another folder in the environment variable "
            "TMPDIR."
        ) from None


def _decoded(dataset: Any, data: bytes, name: str) -> npt.NDArray[Any]:
    """Return the values of packed pixels with the form that a file gives them."""
    import SimpleITK as sitk
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(_CAPTURE), generate_uid()
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    plain = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    plain.SOPClassUID, plain.SOPInstanceUID = _CAPTURE, meta.MediaStorageSOPInstanceUID
    plain.Modality = "OT"
    for key in _FORM:
        if key in dataset:
            plain[key] = dataset[key]
    plain.PixelData = data
    plain["PixelData"].is_undefined_length = True
    with _temporary_folder(name) as folder:
        file = folder / "pixels.dcm"
        plain.save_as(file)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(file))
        before = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            array = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError:
            raise InputError(
                f"the pixels of {name} cannot be decoded ({meta.TransferSyntaxUID.name}); it may be damaged or cut "
                "short. Export it uncompressed."
            ) from None
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(before)
    shape = (frame_count(dataset), int(dataset.Rows), int(dataset.Columns))
    if array.size != np.prod(shape) * int(dataset.SamplesPerPixel):
        raise InputError(f"{name} holds {array.shape} pixels where its header declares {shape}. Export it again.")
    return array
