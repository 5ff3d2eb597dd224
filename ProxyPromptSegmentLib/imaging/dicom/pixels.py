"""The pixels of a DICOM file: decoded by pydicom, lengths compared before, values and colours as they are meant.

Grey values are rescaled, frame by frame where frames differ, to what they measure. What the file means to be shown
inverted (MONOCHROME1) is inverted, unless the values are physical ones. Palettes and YBR become red, green and blue.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.dicom.frames import frame_groups
from ProxyPromptSegmentLib.imaging.dicom.gdcm import decode_with_itk
from ProxyPromptSegmentLib.imaging.dicom.header import checked_numbers, frame_count, numbers, reason_of, word
from ProxyPromptSegmentLib.imaging.readers.jpeg import check_jpeg
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind

_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_MOST_BYTES = 32 << 30
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_EXTENDED = "1.2.840.10008.1.2.4.51"
_HIGH_THROUGHPUT = tuple(f"1.2.840.10008.1.2.4.20{n}" for n in (1, 2, 3))
_PHYSICAL = ("CT", "MR", "PT", "NM", "RTDOSE")  # modalities whose values mean the same however they are shown
_HALVED = ("YBR_FULL_422", "YBR_PARTIAL_422")  # two pixels share their chroma: two thirds of the bytes, if not packed


def read_pixels(dataset: Any, name: str) -> npt.NDArray[Any]:
    """Return a file's values.

    Args:
        dataset: The file, with its pixel data.
        name: Its name, for messages.

    Returns:
        ``(F, rows, columns)``, float32 or the stored type, or ``(F, rows, columns, 3)``, uint8 or uint16.

    Raises:
        InputError: If it has fewer pixels than it declares, cannot be decoded, or has another number of channels.
    """
    rows, columns = (int(n[0]) if (n := numbers(dataset, key)) else 0 for key in ("Rows", "Columns"))
    samples = int((numbers(dataset, "SamplesPerPixel") or [1])[0])
    frames = frame_count(dataset)
    if rows < 1 or columns < 1:
        raise InputError(f"{name} declares {columns}x{rows} pixels; an image needs at least one. Export it again.")
    if samples not in (1, 3):
        raise InputError(f"{name} has {samples} values per pixel; one, or three colours, are allowed.")
    _check_form(dataset, name, samples)
    _check_length(dataset, name, (frames, rows, columns, samples))
    array = _decoded(dataset, name)
    if array.size != frames * rows * columns * samples:
        raise InputError(
            f"{name} holds {array.size / (rows * columns * samples):g} frames where its header declares {frames}; they "
            "do not belong together. Export it again."
        )
    array = array.reshape((frames, rows, columns, 3) if samples == 3 else (frames, rows, columns))
    photometric = word(dataset, "PhotometricInterpretation").upper()
    if photometric == "PALETTE COLOR":
        return _through_palette(array, dataset, name)
    if samples == 3:
        if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
            return array
        raise InputError(
            f"{name} has colours of {array.dtype.itemsize * 8} bits; 8 and 16 are allowed. Export it again."
        )
    if photometric == "MONOCHROME1" and word(dataset, "Modality").upper() not in _PHYSICAL:
        array = _inverted(array, dataset)
    return _rescaled(array, dataset, name)


def _check_form(dataset: Any, name: str, samples: int) -> None:
    """Refuse values in other bits than the lowest, and colours that do not go with their number."""
    checked_numbers(dataset, "NumberOfFrames", name)
    stored, high = (numbers(dataset, key) for key in ("BitsStored", "HighBit"))
    if stored and high and high[0] > stored[0] - 1:  # a lower one contradicts itself; all stored bits count
        raise InputError(
            f"{name} keeps its {stored[0]:.0f} bits below bit {high[0]:.0f}; only values in the lowest bits are read. "
            "Export it again."
        )
    photometric = word(dataset, "PhotometricInterpretation").upper()
    if (photometric == "RGB" or photometric.startswith("YBR")) != (samples == 3):
        raise InputError(
            f"{name} says that it is {photometric or 'of no kind (Photometric Interpretation)'} with {samples} "
            f"value{'s' * (samples > 1)} per pixel, which contradict each other. Export it again."
        )


def _is_packed(dataset: Any, name: str) -> bool:
    """Return whether pixels are packed.

    Raises:
        InputError: If the transfer syntax is not one of the standard.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        return bool(syntax.is_compressed and not syntax.is_deflated)
    except ValueError:
        raise _unknown_packing(name, f"{syntax}, a private transfer syntax") from None


def _unknown_packing(name: str, syntax: str) -> InputError:
    """Return the error for pixels that nothing here unpacks."""
    return InputError(f"{name} is packed as {syntax}, which is not read. Export the series uncompressed.")


def _check_length(dataset: Any, name: str, shape: tuple[int, int, int, int]) -> None:
    """Refuse pixel data that are missing, or shorter than the header declares."""
    keyword = next((key for key in _KEYWORDS if key in dataset), None)
    if keyword is None:
        raise InputError(f"{name} is DICOM without pixel data; give the images of a series.")
    bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(keyword) or int(
        (numbers(dataset, "BitsAllocated") or [0])[0]
    )
    if bits not in (1, 8, 16, 32, 64):
        raise InputError(f"{name} has {bits} bits per value; 8, 16, 32 and 64 are allowed. Export it again.")
    declared = math.prod(shape) * bits
    if declared / 8 > _MOST_BYTES:
        raise InputError(
            f"{name} declares {declared / 8 / 2**30:.0f} GiB of pixels, more than are read. Export a part."
        )
    if _is_packed(dataset, name):
        return
    if word(dataset, "PhotometricInterpretation").upper() in _HALVED:
        declared = declared * 2 // 3
    found = len(dataset[keyword].value or b"")
    if found < -(-declared // 8):
        raise InputError(
            f"{name} is cut short: its header declares {shape[2]}x{shape[1]} pixels in {shape[0]} frames, "
            f"{-(-declared // 8)} bytes, and it has {found}. Copy or export it again."
        )
    if found * 8 >= declared + math.prod(shape[1:]) * bits:
        raise InputError(
            f"{name} holds {found} bytes of pixels where its header declares {shape[2]}x{shape[1]} pixels in "
            f"{shape[0]} frame{'s' * (shape[0] > 1)}, {-(-declared // 8)} bytes; they do not belong together. Export "
            "it again."
        )


def _decoded(dataset: Any, name: str) -> npt.NDArray[Any]:
    """Return the stored values as decoded, YBR as RGB; through GDCM in ITK where pydicom has no decoder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if _is_packed(dataset, name):
                syntax = dataset.file_meta.TransferSyntaxUID
                from pydicom.pixels import get_decoder

                try:
                    available = get_decoder(syntax).is_available
                except NotImplementedError:
                    raise _unknown_packing(name, syntax.name) from None
                if not available and syntax in _HIGH_THROUGHPUT:
                    raise InputError(
                        f"{name} is packed as {syntax.name}, which needs the Python packages pylibjpeg and "
                        "pylibjpeg-openjpeg; they are not installed here.",
                        Remedy(kind=RemedyKind.INSTALL_PACKAGE, package="pylibjpeg pylibjpeg-openjpeg"),
                    )
                if not available or _is_deep_jpeg(dataset):
                    return decode_with_itk(dataset, name)
            array = np.asarray(dataset.pixel_array)
            if dataset.file_meta.TransferSyntaxUID in _JPEG:
                from pydicom.encaps import generate_frames

                for packed in generate_frames(dataset.PixelData, number_of_frames=frame_count(dataset)):
                    check_jpeg(packed, name)
            return array
        except (InputError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # decoders of six packages raise what they like
            raise InputError(
                f"the pixels of {name} cannot be decoded; it may be damaged or cut short ({reason_of(error)}). Copy or "
                "export it again."
            ) from None


def _is_deep_jpeg(dataset: Any) -> bool:
    """Return whether pixels are JPEGs of 12 bits, which pydicom's usual decoder does not unpack."""
    return dataset.file_meta.TransferSyntaxUID == _EXTENDED and (numbers(dataset, "BitsAllocated") or [8])[0] > 8


def _inverted(array: npt.NDArray[Any], dataset: Any) -> npt.NDArray[Any]:
    """Return stored values so that the brighter ones are the higher ones."""
    if array.dtype.kind == "f":
        return array.max() + array.min() - array
    bits = int((numbers(dataset, "BitsStored") or [array.dtype.itemsize * 8])[0])
    top = -1 if array.dtype.kind == "i" else (1 << bits) - 1
    return (top - array.astype(np.int64)).astype(np.float32)


def _through_palette(array: npt.NDArray[Any], dataset: Any, name: str) -> npt.NDArray[Any]:
    """Return colours of 8 bits, or grey values if the palette has no others."""
    from pydicom.pixels import apply_color_lut

    try:
        colours = np.asarray(apply_color_lut(array, dataset))[..., :3]
    except Exception as error:  # noqa: BLE001  # a damaged palette can fail anywhere
        raise InputError(f"the palette of {name} cannot be used ({reason_of(error)}). Export it in colour.") from None
    if colours.dtype == np.uint16:
        colours = (colours >> 8).astype(np.uint8)
    grey = np.array_equal(colours[..., 0], colours[..., 1]) and np.array_equal(colours[..., 0], colours[..., 2])
    return colours[..., 0] if grey else colours


def _rescaled(array: npt.NDArray[Any], dataset: Any, name: str) -> npt.NDArray[Any]:
    """Return values as the modality means them: slope and intercept of each frame, a table, or the scale of a dose."""
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels import apply_modality_lut

        try:
            return np.asarray(apply_modality_lut(np.rint(array).astype(np.int64), dataset), np.float32)
        except Exception as error:  # noqa: BLE001  # a damaged table can fail anywhere
            raise InputError(
                f"the modality table of {name} cannot be used ({reason_of(error)}). Export it again."
            ) from None
    scales = []
    for number in range(len(array)):
        groups = frame_groups(dataset, number, ("PixelValueTransformationSequence",))
        source = groups if checked_numbers(groups, "RescaleSlope", name) else dataset
        dose = checked_numbers(dataset, "DoseGridScaling", name)
        slope = (dose or checked_numbers(source, "RescaleSlope", name) or [1.0])[0]
        intercept = (checked_numbers(source, "RescaleIntercept", name) or [0.0])[0]
        if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
            raise InputError(
                f"{name} rescales its values by {slope:g} and {intercept:g}; a slope that is finite and not 0 is "
                "needed."
            )
        scales.append((slope, intercept))
    if set(scales) == {(1.0, 0.0)}:
        return array
    result = np.empty(array.shape, np.float32)
    for number, (slope, intercept) in enumerate(scales):
        result[number] = array[number].astype(np.float64) * slope + intercept
    return result
