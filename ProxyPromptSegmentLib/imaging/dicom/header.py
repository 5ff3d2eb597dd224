"""Headers of DICOM files, and which files are images that the program reads."""

from __future__ import annotations

import importlib.util
import struct
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.errors import InputError, ProxyPromptError
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SUFFIXES = (".dcm", ".ima")
SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_DIRECTORY = "1.2.840.10008.1.3.10"
_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_MAKER, _SLICES_IN_MOSAIC = (0x0019, 0x0010), (0x0019, 0x100A)
_FIRST_GROUPS = (0x0002, 0x0008)


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM, judged by its suffix, its preamble, or its first attribute."""
    if path.suffix.lower() in SUFFIXES:
        return True
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(132)
            return head[128:] == b"DICM" or _starts_with_attribute(head)
    return False


def _starts_with_attribute(head: bytes) -> bool:
    """Return whether the first bytes are an attribute of one of the groups that a file without preamble starts with."""
    if len(head) < 12:
        return False
    for order in "<>":
        group, element = struct.unpack_from(f"{order}HH", head)
        if group not in _FIRST_GROUPS or element > 0x3000:
            continue
        if head[4:6].isalpha() and head[4:6].isupper():
            return True
        if 0 < struct.unpack_from(f"{order}I", head, 4)[0] <= 64:
            return True
    return False


def needs_pydicom(path: Path) -> None:
    """Refuse a DICOM file if the package that reads it is missing.

    Raises:
        InputError: Naming the package.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise InputError(
            f"{path.name} is DICOM; reading it needs the Python package pydicom, which is not installed here. In "
            "Slicer, load it with Slicer's DICOM module.",
            Remedy(kind=RemedyKind.INSTALL_PACKAGE, package="pydicom"),
        )


def read_dataset(path: Path, pixels: bool = False) -> Dataset:
    """Read a file's attributes.

    Args:
        path: The file.
        pixels: Whether the pixel data are read, too.

    Raises:
        InputError: If it is not DICOM, or damaged.
    """
    needs_pydicom(path)
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import UID

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values that are not as the standard wants them; what counts is checked
        try:
            found = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
            known = any(key in found for key in ("SOPClassUID", "Rows", "StudyInstanceUID", "Modality", "PatientID"))
            if not known and "MediaStorageSOPClassUID" not in found.file_meta:
                raise InvalidDicomError("it has none of the attributes that every DICOM file has")
            if not hasattr(found.file_meta, "TransferSyntaxUID"):
                found.file_meta.TransferSyntaxUID = UID(_assumed_syntax(found))
        except OSError as error:
            raise InputError(
                f"{path.name} cannot be read ({error.strerror or error}). Copy or export it again."
            ) from None
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # a damaged file can lead pydicom anywhere
            raise InputError(f"{path.name} cannot be read as DICOM ({reason_of(error)}). Export it again.") from None
    return found


def _assumed_syntax(found: Any) -> str:
    """Return the transfer syntax that pydicom recognised in a file that does not name it."""
    implicit, little = found.original_encoding
    if implicit:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little or little is None else "1.2.840.10008.1.2.2"


@contextmanager
def damage_in_words(name: str) -> Iterator[None]:
    """Turn whatever a damaged attribute leads pydicom to, which reads each when it is asked for, into a sentence.

    Raises:
        InputError: If the block raises something that is none of ours.
    """
    try:
        yield
    except (ProxyPromptError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # a damaged attribute can lead anywhere
        raise InputError(f"{name} is damaged ({reason_of(error)}). Copy or export it again.") from None


def reason_of(error: Exception) -> str:
    """Return an error's words in one line of at most 160 characters, without a stop at the end."""
    words = " ".join(str(error).split()).rpartition("raised by all available plugins: ")[2]
    return words[:160].rstrip(".") or type(error).__name__


def word(dataset: Any, name: str) -> str:
    """Return an attribute as text in one line; "" if it is missing, empty or unreadable."""
    with suppress(Exception):
        value = dataset.get(name)
        if value is not None:
            return " ".join(str(value).replace("\0", " ").split())
    return ""


def numbers(dataset: Any, name: str) -> list[float]:
    """Return an attribute's numbers; [] if it is missing, empty or no numbers."""
    with suppress(Exception):
        value = dataset.get(name)
        if value is None or value == "":
            return []
        several = isinstance(value, (list, tuple)) or (
            hasattr(value, "__iter__") and not isinstance(value, (str, bytes))
        )
        return [float(one) for one in (value if several else [value])]
    return []


def checked_numbers(dataset: Any, keyword: str, name: str) -> list[float]:
    """Return an attribute's numbers; [] if it is missing or empty.

    Args:
        dataset: The attributes.
        keyword: The attribute.
        name: Name of the file, for messages.

    Raises:
        InputError: If it is there and holds no numbers, as lengths with a decimal comma.
    """
    found = numbers(dataset, keyword)
    try:
        empty = keyword not in dataset or dataset[keyword].value in (None, "", b"") or not len(dataset[keyword].value)
    except TypeError:  # a single number
        empty = False
    except Exception:  # noqa: BLE001  # pydicom converts a value when it is asked for, and raises what it likes
        empty = False
    if not found and not empty:
        raise InputError(
            f"{name} has no readable number in {keyword}; numbers have a decimal point. Correct it, or export the "
            "image again."
        )
    return found


def frame_count(dataset: Any) -> int:
    """Return the number of frames that a header states, at least 1."""
    found = numbers(dataset, "NumberOfFrames")
    return int(found[0]) if found and found[0] >= 1 else 1


def is_image(dataset: Any) -> bool:
    """Return whether a header is one of an image, as opposed to a report, a plan or a directory."""
    return all(numbers(dataset, name) for name in ("Rows", "Columns"))


def lacks_its_image(dataset: Any) -> bool:
    """Return whether a header is of a class of images, or of none, and ends before the size of its image."""
    from pydicom.uid import UID

    kind = word(dataset, "SOPClassUID") or word(getattr(dataset, "file_meta", None) or {}, "MediaStorageSOPClassUID")
    return not is_image(dataset) and (not kind or UID(kind).name.endswith("Image Storage"))


def check_image(dataset: Any, name: str) -> None:
    """Refuse what is not an image, or one that is not read.

    Raises:
        InputError: Saying what came.
    """
    kind = word(dataset, "SOPClassUID")
    if kind == _DIRECTORY or word(dataset.get("file_meta"), "MediaStorageSOPClassUID") == _DIRECTORY:
        raise InputError(
            f"{name} is the directory of a DICOM medium; give an image of it, or a folder with one series."
        )
    if kind in SEGMENTATION_CLASSES:
        raise InputError(f"{name} is a DICOM segmentation; give the images that are to be segmented.")
    if not is_image(dataset):
        raise InputError(f"{name} is DICOM without an image ({class_name(dataset)}); give the images of a series.")
    slices = _slices_in_mosaic(dataset)
    if slices > 1 or "MOSAIC" in word(dataset, "ImageType").upper():
        count = f" of {slices} slices" if slices > 1 else ""
        raise InputError(
            f"{name} is a mosaic{count} in one picture, as Siemens scanners write them; convert the series to NIfTI, "
            "for example with dcm2niix, and give one volume of that."
        )
    part, parts = (numbers(dataset, f"InConcatenation{key}") for key in ("Number", "TotalNumber"))
    if parts and parts[0] > 1 or (part or word(dataset, "ConcatenationUID")) and not parts:  # the total may be missing
        raise InputError(
            f"{name} is part {f'{part[0]:.0f}' if part else '?'} of {f'{parts[0]:.0f}' if parts else 'some'} of an "
            "image that was divided over several files (a concatenation); export it in one file."
        )
    if kind == _WHOLE_SLIDE and frame_count(dataset) > 1:
        raise InputError(
            f"{name} is a whole-slide image in {frame_count(dataset)} tiles; export the region that you mean as a "
            "picture."
        )


def _slices_in_mosaic(dataset: Any) -> int:
    """Return how many slices a picture of a Siemens scanner shows side by side; 0 if it does not say it."""
    with suppress(Exception):
        if str(dataset[_MAKER].value).strip().upper() == "SIEMENS MR HEADER":  # angiographs have a filter's size there
            value = dataset[_SLICES_IN_MOSAIC].value
            return int.from_bytes(value[:2], "little") if isinstance(value, bytes) else int(value)
    return 0


def burned_in(headers: Iterable[Any], name: str) -> str:
    """Return a note on text in the pixels themselves; "" if no header says that there is any."""
    if not any(word(header, "BurnedInAnnotation").upper() == "YES" for header in headers):
        return ""
    return (
        f"{name} has text in its pixels (Burned In Annotation), which may name the patient and may be taken for a "
        "structure."
    )


def class_name(dataset: Any) -> str:
    """Return the name of a file's kind, for messages."""
    from pydicom.uid import UID

    kind = word(dataset, "SOPClassUID")
    return (UID(kind).name if kind else "") or word(dataset, "Modality") or "of an unknown kind"
