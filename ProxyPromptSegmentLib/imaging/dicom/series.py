"""DICOM series: a folder is scanned once, and what belongs to one image is chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.dicom.header import (
    SEGMENTATION_CLASSES,
    check_image,
    frame_count,
    is_dicom,
    is_image,
    lacks_its_image,
    needs_pydicom,
    numbers,
    read_dataset,
    word,
)
from ProxyPromptSegmentLib.imaging.dicom.pixels import read_pixels

_ITK_ROOT = "1.2.826.0.1.3680043.2.1125."
_OFTEN_MADE_UP = ("StudyInstanceUID", "FrameOfReferenceUID")
_ALIKE = (
    ("PatientID", "patients (Patient ID)"), ("PatientName", "patients (Patient's Name)"),
    ("PatientBirthDate", "patients (Patient's Birth Date)"), ("Modality", "modalities (Modality)"),
    ("StudyInstanceUID", "studies (Study Instance UID)"),
    ("FrameOfReferenceUID", "frames of reference (Frame of Reference UID)"),
    ("PhotometricInterpretation", "kinds of pixels (Photometric Interpretation)"),
    ("Units", "units of their values (Units)"),
)  # fmt: skip
"""What all images of a series share."""
_OF_A_STUDY = ("StudyDate", "AccessionNumber", "StudyID", "StudyDescription")


@dataclass(frozen=True, kw_only=True)
class Series:
    """The files of one series with their headers, without pixels.

    Attributes:
        uid: Series Instance UID.
        files: Its image files, in the order of their names.
        headers: Their headers.
    """

    uid: str
    files: list[Path] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)

    def described(self) -> str:
        """Return description, number of files and a file, for messages."""
        words = next((w for key in ("SeriesDescription", "ProtocolName") if (w := word(self.headers[0], key))), "")
        named = f'"{words[:60]}"' if words else "unnamed"
        return f"{named} ({len(self.files)} files, e.g. {self.files[0].name})"

    def of_single_frames(self) -> Series:
        """Return the series without files of many frames, each of which is an image of its own."""
        return self.part([n for n, header in enumerate(self.headers) if frame_count(header) == 1])

    def part(self, kept: Sequence[int]) -> Series:
        """Return the series with some of its files, by their place in it."""
        return Series(uid=self.uid, files=[self.files[n] for n in kept], headers=[self.headers[n] for n in kept])

    def holds_masks(self) -> bool:
        """Return whether it is a segmentation."""
        return all(word(header, "SOPClassUID") in SEGMENTATION_CLASSES for header in self.headers)


def scan(files: Iterable[Path], damaged: list[Path] | None = None) -> dict[str, Series]:
    """Return the series of images among files; whatever is no DICOM image is skipped.

    Args:
        files: The files.
        damaged: Receives those that are DICOM and cannot be read, or lack the size of their image.
    """
    found: dict[str, Series] = {}
    damaged = [] if damaged is None else damaged
    for file in files:
        if not is_dicom(file):
            continue
        try:
            header = read_dataset(file)
        except InputError:
            damaged.append(file)
            continue
        if not is_image(header):
            if lacks_its_image(header):
                damaged.append(file)
        else:
            uid = word(header, "SeriesInstanceUID")
            series = found.setdefault(uid, Series(uid=uid))
            series.files.append(file)
            series.headers.append(header)
    return found


def series_of(source: Path) -> Series:
    """Return the image in a folder, or the one that a file belongs to.

    A file with many frames, and one without a place in the patient, is an image of its own.

    Raises:
        InputError: If a folder has no series or several, or a file is not an image.
    """
    needs_pydicom(source)
    if source.is_dir():
        damaged: list[Path] = []
        found = scan(files_of(source), damaged)
        _check_damaged(damaged, source)
        images = {uid: one for uid, one in found.items() if not one.holds_masks()}
        found = images or found  # a segmentation of the series may lie beside it
        if not found:
            raise InputError(
                f"The folder {source} contains no DICOM series; give the folder that directly contains the DICOM files."
            )
        if len(found) > 1:
            listed = "; ".join(one.described() for one in list(found.values())[:12])
            more = "; and more" if len(found) > 12 else ""
            raise InputError(
                f"The folder {source} contains {len(found)} DICOM series: {listed}{more}. Give one file of the series "
                "you want."
            )
        return _of_one_patient(_without_copies(next(iter(found.values()))), source)
    header = read_dataset(source)
    check_image(header, source.name)
    alone = Series(uid=word(header, "SeriesInstanceUID"), files=[source], headers=[header])
    if not alone.uid or frame_count(header) > 1 or not numbers(header, "ImagePositionPatient"):
        return alone
    wanted = [file for file in files_of(source.parent) if file != source]
    damaged = []
    found = scan([source, *wanted], damaged)
    _check_damaged(damaged, source.parent)
    return _of_one_patient(_without_copies(found.get(alone.uid, alone).of_single_frames()), source.parent)


def _check_damaged(damaged: Sequence[Path], folder: Path) -> None:
    """Refuse a folder with damaged files: each may be a slice that the volume would lack.

    Raises:
        InputError: Naming them.
    """
    if damaged:
        names = ", ".join(file.name for file in damaged[:5]) + (" and more" if len(damaged) > 5 else "")
        raise InputError(
            f"{len(damaged)} DICOM file{'s' * (len(damaged) > 1)} of the folder {folder} cannot be read ({names}), so "
            "that the volume may lack slices. Copy or export the series again, or move what does not belong to it."
        )


def files_of(folder: Path) -> list[Path]:
    """Return the files directly in a folder, in the order of their names."""
    try:
        return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be read ({error.strerror or error}); change its permissions."
        ) from None


def _without_copies(series: Series) -> Series:
    """Return a series without files that repeat an image, as some discs have them.

    Copies have one SOP Instance UID, place and values, whatever packs them; the UID alone may be that of all images of
    a series from which names were removed.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for n, header in enumerate(series.headers):
        place = (*numbers(header, "ImagePositionPatient"), *numbers(header, "InstanceNumber"))
        alike.setdefault((word(header, "SOPInstanceUID") or n, *place), []).append(n)
    kept: list[int] = []
    for same in alike.values():
        kept += {_print_of(series.files[n]): n for n in reversed(same)}.values() if len(same) > 1 else same
    return series.part(sorted(kept))


def _print_of(file: Path) -> bytes:
    """Return a fingerprint of a file's values, the same for packed and unpacked ones."""
    values = read_pixels(read_dataset(file, pixels=True), file.name)
    return hashlib.blake2b(np.ascontiguousarray(values, np.float64).data, digest_size=16).digest()


def _of_one_patient(series: Series, folder: Path) -> Series:
    """Return a series after comparing whom its images show, and what their values mean.

    A study or frame of reference of its own for each image says nothing: ITK and SimpleITK make up a new one for each
    file that they write, unless they are given one.

    Raises:
        InputError: If they are of several patients, studies, frames of reference or kinds, whatever their series is
            called.
    """
    named = any(word(header, "PatientID") for header in series.headers)
    for name, said in _ALIKE:
        found = {word(header, name).casefold() for header in series.headers} - {""}
        if name == "PhotometricInterpretation":  # luminance and chroma become colours, too
            found = {"rgb" if kind.startswith("ybr") else kind for kind in found}
        if name == "PatientName" and named:  # one patient's name may be spelled in several ways
            continue
        if len(found) > 1 and not (name in _OFTEN_MADE_UP and _made_up(series, found)):
            raise InputError(
                f"The DICOM series in {folder} mixes images of {len(found)} {said}, although they name one series. "
                "Move the files of each into a folder of its own."
            )
    return series


def _made_up(series: Series, found: set[str]) -> bool:
    """Return whether identifiers that should be alike say nothing: each image has its own, and nothing else differs."""
    if len(found) < len(series.headers):
        return False
    if len(found) == 2 and not all(uid.startswith(_ITK_ROOT) for uid in found):  # as likely two studies
        return False
    return all(len({word(header, key) for header in series.headers} - {""}) < 2 for key in _OF_A_STUDY)


def check_sizes(series: Series, where: str) -> None:
    """Refuse a series whose images differ in size or colour.

    Raises:
        InputError: Saying that it mixes them.
    """
    forms = {
        (*numbers(one, "Rows"), *numbers(one, "Columns"), *(numbers(one, "SamplesPerPixel") or [1]))
        for one in series.headers
    }
    if len(forms) > 1:
        raise InputError(
            f"{where} mixes slices of several orientations or sizes (a localizer?); a volume has one. Export the stack "
            "that you mean as a volume of its own."
        )


def in_time_order(headers: Sequence[Any]) -> list[int]:
    """Return the order of images by their numbers."""
    return [int(n) for n in np.argsort([(numbers(one, "InstanceNumber") or [0])[0] for one in headers], kind="stable")]
