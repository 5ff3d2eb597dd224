"""DICOM SEG as masks: its segments with names, codes and colours, on the grid that its frames lie on.

Frames of a segment may be missing where it is empty, so that the grid is that of all frames together, gaps filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.dicom.frames import frame_groups
from ProxyPromptSegmentLib.imaging.dicom.header import (
    SEGMENTATION_CLASSES,
    class_name,
    damage_in_words,
    numbers,
    read_dataset,
    word,
)
from ProxyPromptSegmentLib.imaging.dicom.pixels import read_pixels
from ProxyPromptSegmentLib.imaging.dicom.places import UNEVEN, Place, grid_of, places_of
from ProxyPromptSegmentLib.imaging.dicom.series import files_of, scan
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.readers.stored import grid_from

_CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
# White and matrix at D65, with which highdicom and dcmqi write colours; the standard's own white is D50.
_LAB_TO_XYZ = (0.950456, 1.0, 1.088754)
_XYZ_TO_RGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])


@dataclass(frozen=True, kw_only=True)
class DicomSegment:
    """One segment.

    Attributes:
        name: Segment Label.
        mask: 1 inside, uint8 ``(K, J, I)``.
        color: Red, green, blue in 0..1; None if the file has none.
        terminology: Its codes in slicerio's form; None if it has none.
        number: Segment Number.
        algorithm: Its algorithm's name and type; "" if there is none.
    """

    name: str
    mask: npt.NDArray[np.uint8]
    color: tuple[float, float, float] | None
    terminology: dict[str, Any] | None
    number: int
    algorithm: tuple[str, str]


def read_dicom_segments(source: Path) -> tuple[list[DicomSegment], VolumeGeometry]:
    """Read the segments of a file, or of the only segmentation in a folder.

    Raises:
        InputError: If it is no segmentation, is damaged, or its frames form no grid.
    """
    path = _the_file(source)
    with damage_in_words(path.name):
        return _read(read_dataset(path, pixels=True), path.name)


def _read(dataset: Any, name: str) -> tuple[list[DicomSegment], VolumeGeometry]:
    """Return the segments of a file."""
    kind = word(dataset, "SOPClassUID")
    if kind == _CONTOURS:
        raise InputError(
            f"{name} holds contours (RT Structure Set); convert them to masks in Slicer, and save .seg.nrrd."
        )
    if kind not in SEGMENTATION_CLASSES:
        raise InputError(
            f"{name} is DICOM, but no segmentation ({class_name(dataset)}); segmentations are read from DICOM SEG, "
            ".seg.nrrd, .nii.gz, .nrrd, .mha and pictures."
        )
    items = dataset.get("SegmentSequence")
    if not items:
        raise InputError(f"{name} has no segments; export it again.")
    frames = read_pixels(dataset, name)
    places = places_of(dataset, name)
    if places is None:
        raise InputError(f"the frames of {name} have no position in the patient, so that they fit no volume.")
    rows, geometry = _grid(places, (frames.shape[2], frames.shape[1]), name)
    labelmap = kind == SEGMENTATION_CLASSES[1] or word(dataset, "SegmentationType").upper() == "LABELMAP"
    half = 0.0
    if word(dataset, "SegmentationType").upper() == "FRACTIONAL":
        half = (numbers(dataset, "MaximumFractionalValue") or [255.0])[0] / 2
    found = []
    owners = [] if labelmap else [_owner(dataset, n, name) for n in range(len(frames))]
    known = {int(item.SegmentNumber) for item in items if numbers(item, "SegmentNumber")}
    if set(owners) - known:
        raise InputError(f"{name} has frames of the segment {min(set(owners) - known)}, which it does not describe.")
    for item in items:
        number = int((numbers(item, "SegmentNumber") or [0])[0])
        if labelmap and number == 0:
            continue  # the background
        mask = np.zeros(geometry.shape_kji, np.uint8)
        for n, row in enumerate(rows):
            if labelmap:
                mask[row] |= frames[n] == number
            elif owners[n] == number:
                mask[row] |= frames[n] > half
        found.append(
            DicomSegment(
                name=word(item, "SegmentLabel") or f"segment {number}",
                mask=mask,
                color=_color(numbers(item, "RecommendedDisplayCIELabValue")),
                terminology=_terminology(item),
                number=number,
                algorithm=(word(item, "SegmentAlgorithmName"), word(item, "SegmentAlgorithmType")),
            )
        )
    return found, geometry


def _the_file(source: Path) -> Path:
    """Return a file, or the only segmentation of a folder."""
    if not source.is_dir():
        return source
    files = [
        file
        for series in scan(files_of(source)).values()
        for file, header in zip(series.files, series.headers, strict=True)
        if word(header, "SOPClassUID") in SEGMENTATION_CLASSES
    ]
    if len(files) != 1:
        raise InputError(f"the folder {source} contains {len(files)} DICOM segmentations; give one file.")
    return files[0]


def _owner(dataset: Any, frame: int, name: str) -> int:
    """Return the number of the segment that a frame belongs to."""
    found = numbers(frame_groups(dataset, frame, ("SegmentIdentificationSequence",)), "ReferencedSegmentNumber")
    if not found:
        raise InputError(f"frame {frame + 1} of {name} belongs to no segment; export it again.")
    return int(found[0])


def _grid(places: Sequence[Place], size: tuple[int, int], name: str) -> tuple[list[int], VolumeGeometry]:
    """Return the slice of each frame, and the grid."""
    first = places[0]
    distinct = {tuple(np.round(one.origin, 3)): one for one in reversed(places)}
    for one in distinct.values():  # each fits the first, apart from its distance
        grid_of([first, one] if one is not first else [one], size, name, "frames")
    along = np.array([float(first.normal @ (one.origin - first.origin)) for one in places])
    start = float(along.min())
    gaps = np.diff(np.unique(np.round(along, 3)))
    gaps = gaps[gaps > 1e-2]
    for step in (first.distance, float(gaps.min()) if len(gaps) else None, 1.0):
        if step and np.abs((along - start) / step - np.round((along - start) / step)).max() <= UNEVEN:
            break
    else:
        raise InputError(f"the frames of {name} do not lie at even distances; resample the segmentation to even ones.")
    counted = np.round((along - start) / step)
    rows = [int(n) for n in counted]
    if max(rows):  # where the frames lie counts, not what the header says of their distance
        step = float((along - start) @ counted) / float(counted @ counted)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.right * first.size.column_mm, first.down * first.size.row_mm
    affine[:3, 2], affine[:3, 3] = first.normal * step, places[int(along.argmin())].origin
    return rows, grid_from(affine, (*size, max(rows) + 1), name)


def _terminology(item: Any) -> dict[str, Any] | None:
    """Return the codes of a segment."""
    found: dict[str, Any] = {}
    for key, sequence in (
        ("category", "SegmentedPropertyCategoryCodeSequence"),
        ("type", "SegmentedPropertyTypeCodeSequence"),
        ("anatomicRegion", "AnatomicRegionSequence"),
    ):
        if codes := item.get(sequence):
            found[key] = _code(codes[0])
            if key == "type" and (more := codes[0].get("SegmentedPropertyTypeModifierCodeSequence")):
                found["typeModifier"] = _code(more[0])
            if key == "anatomicRegion" and (more := codes[0].get("AnatomicRegionModifierSequence")):
                found["anatomicRegionModifier"] = _code(more[0])
    if "category" not in found or "type" not in found:
        return None
    return {"contextName": "Segmentation category and type - DICOM master list", **found}


def _code(code: Any) -> list[str]:
    """Return scheme, value and meaning."""
    value = word(code, "CodeValue") or word(code, "LongCodeValue")
    return [word(code, "CodingSchemeDesignator"), value, word(code, "CodeMeaning")]


def _color(lab: list[float]) -> tuple[float, float, float] | None:
    """Return sRGB in 0..1 of DICOM's CIELab values of 16 bits."""
    if len(lab) != 3:
        return None
    lightness = lab[0] * 100 / 65535
    f = (lightness + 16) / 116
    parts = (f + (lab[1] * 255 / 65535 - 128) / 500, f, f - (lab[2] * 255 / 65535 - 128) / 200)
    light = [t**3 if t > 6 / 29 else 3 * (6 / 29) ** 2 * (t - 4 / 29) for t in parts]
    xyz = np.array(light) * _LAB_TO_XYZ
    linear = np.clip(_XYZ_TO_RGB @ xyz, 0, 1)
    red, green, blue = (
        float(c) for c in np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    )
    return red, green, blue
