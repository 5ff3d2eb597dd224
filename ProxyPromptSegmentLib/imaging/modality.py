"""Kinds of image: what the file says, and what can be ruled out from colour.

`KINDS` are the words of vocabularies: DICOM's own for scanners, plain ones for what is photographed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.volumes import Volume

KINDS = {
    "CT": "CT",
    "MR": "MRI",
    "US": "ultrasound",
    "XR": "X-ray",
    "MG": "mammography",
    "endoscopy": "endoscopy",
    "fundus": "fundus photography",
    "dermoscopy": "dermoscopy",
    "photograph": "photography",
    "microscopy": "microscopy",
}
"""Words for the user by kind."""

IN_COLOUR = frozenset({"endoscopy", "fundus", "dermoscopy", "photograph"})
IN_GREY = frozenset({"CT", "MR", "XR", "MG"})
_DICOM = {
    "CT": "CT", "MR": "MR", "US": "US", "IVUS": "US", "CR": "XR", "DX": "XR", "RF": "XR", "XA": "XR", "MG": "MG",
    "ES": "endoscopy", "OP": "fundus", "DMS": "dermoscopy", "XC": "photograph", "SM": "microscopy", "GM": "microscopy",
}  # fmt: skip
_GREY_TOLERANCE = 8 / 255  # of the range; lossy compression tints grey pictures
_COLOURED_SHARE = 0.02
_MOST_PIXELS = 250_000


def modality_of(volume: Volume) -> str | None:
    """Return the kind of a volume that was read from DICOM, one of `KINDS`; None if its file does not say it."""
    return _DICOM.get(volume.modality)


def shows_colour(array: npt.NDArray[np.float32]) -> bool:
    """Return whether an image ``(..., 3)`` has colours; grey pictures stored as colours have none."""
    pixels = array.reshape(-1, array.shape[-1])
    pixels = pixels[:: max(1, len(pixels) // _MOST_PIXELS)]
    span = float(np.ptp(pixels)) or 1.0
    return float(np.mean(np.ptp(pixels, axis=1) > _GREY_TOLERANCE * span)) > _COLOURED_SHARE


def can_show(volume: Volume, kinds: Iterable[str]) -> bool:
    """Return whether a volume can be one of some kinds; True where nothing speaks against it."""
    wanted = frozenset(kinds)
    if not wanted:
        return True
    said = modality_of(volume)
    if said is not None:
        return said in wanted
    coloured = volume.is_rgb and shows_colour(volume.array)
    return not wanted <= (IN_GREY if coloured else IN_COLOUR)


def described(volume: Volume) -> str:
    """Return what is known of the kind of a volume, in words."""
    said = modality_of(volume)
    if said is not None:
        return f"is {KINDS[said]}"
    return "is in colour" if volume.is_rgb and shows_colour(volume.array) else "is grey"
