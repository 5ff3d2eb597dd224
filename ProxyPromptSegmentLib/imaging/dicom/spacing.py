"""Pixel sizes of DICOM images: which attribute says them, and whether they are lengths in the patient at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.dicom.header import checked_numbers, numbers

_MOST_MM = 1000.0
_CENTIMETRES = 3  # Physical Units of an ultrasound region


@dataclass(frozen=True, kw_only=True)
class PixelSize:
    """The size of a pixel.

    Attributes:
        row_mm: Distance of neighbouring rows; 1 if nothing is known, or the ratio to that of the columns.
        column_mm: Distance of neighbouring columns.
        known: Whether they are lengths.
        note: What the user should know about them, as a sentence without a name; "" if nothing.
    """

    row_mm: float = 1.0
    column_mm: float = 1.0
    known: bool = False
    note: str = ""


def pixel_size(plane: Any, whole: Any, name: str) -> PixelSize:
    """Return the pixel size of a frame.

    Args:
        plane: Its attributes: those of its groups, or the file.
        whole: The file.
        name: Its name, for messages.

    Raises:
        InputError: If a size is not a length: no number, 0, negative, NaN or beyond a metre.
    """
    for source in (plane, whole):
        if found := checked_numbers(source, "PixelSpacing", name):
            return PixelSize(row_mm=found[0], column_mm=_second(found, name, "PixelSpacing"), known=True)
    if found := checked_numbers(whole, "ImagerPixelSpacing", name):
        row, column = found[0], _second(found, name, "ImagerPixelSpacing")
        factor = (numbers(whole, "EstimatedRadiographicMagnificationFactor") or [0.0])[0]
        if math.isfinite(factor) and 1.0 <= factor < 10.0:
            return PixelSize(row_mm=row / factor, column_mm=column / factor, known=True)
        return PixelSize(
            row_mm=row,
            column_mm=column,
            known=True,
            note="gives the pixel size at the detector only; in the patient, lengths are shorter by the magnification",
        )
    if found := checked_numbers(whole, "NominalScannedPixelSpacing", name):
        return PixelSize(
            row_mm=found[0],
            column_mm=_second(found, name, "NominalScannedPixelSpacing"),
            known=True,
            note="gives the pixel size on the film that was scanned; in the patient, lengths may differ",
        )
    regions = whole.get("SequenceOfUltrasoundRegions")
    if regions and (size := region_size(regions)):
        return PixelSize(row_mm=size[0], column_mm=size[1], known=True)
    ratio = numbers(plane, "PixelAspectRatio") or numbers(whole, "PixelAspectRatio")
    if len(ratio) == 2 and min(ratio) > 0 and 0.1 < ratio[0] / ratio[1] < 10:
        return PixelSize(row_mm=ratio[0] / ratio[1], column_mm=1.0)
    return PixelSize()


def _second(found: list[float], name: str, keyword: str) -> float:
    """Return the second of two lengths after checking both."""
    if len(found) != 2 or not all(math.isfinite(x) and 0 < x <= _MOST_MM for x in found):
        raise InputError(
            f"{name} gives a pixel size ({keyword}) of {' x '.join(f'{x:g}' for x in found)} mm; two numbers above 0 "
            f"and up to {_MOST_MM:.0f} are needed. Correct it, or export the image again."
        )
    return found[1]


def region_size(regions: Any) -> tuple[float, float] | None:
    """Return the pixel size (row, column) in mm of ultrasound regions; None if they have no common one.

    Regions in other units than cm, for example of time or velocity, do not count.
    """
    sizes = set()
    for region in regions:
        units = [numbers(region, f"PhysicalUnits{axis}Direction") for axis in "XY"]
        deltas = [numbers(region, f"PhysicalDelta{axis}") for axis in "XY"]
        if all(one == [_CENTIMETRES] for one in units) and all(len(one) == 1 for one in deltas):
            x, y = (abs(one[0]) * 10 for one in deltas)
            if math.isfinite(x * y) and 0 < x <= _MOST_MM and 0 < y <= _MOST_MM:
                sizes.add((y, x))
    return sizes.pop() if len(sizes) == 1 else None


def slice_distance(plane: Any, whole: Any) -> float | None:
    """Return the distance of slices, or the thickness of a single one, in mm; None if the header gives neither."""
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        for source in (plane, whole):
            found = numbers(source, name)
            if found and math.isfinite(found[0]) and 0 < abs(found[0]) <= _MOST_MM:
                return abs(found[0])
    offsets = numbers(whole, "GridFrameOffsetVector")  # of a dose
    return abs(offsets[1] - offsets[0]) or None if len(offsets) > 1 and np.isfinite(offsets[:2]).all() else None
