"""Prints of the slices that runs wrote into a segment: they show which slices were changed by anything else since.

They are stored in a tag of the segment, so they are saved with it. A slice that differs from its print, or that has
voxels without a print, was changed by something other than a run, and belongs to the user.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import AXES, Axis
from ProxyPromptSegmentModule.scene.terminology import tag_of

if TYPE_CHECKING:
    import slicer

Plane = npt.NDArray[np.bool_]

WRITTEN_TAG = "ProxyPromptSegment.Written"
"""Tag of a segment: the axis, then for each slice its print; ``.`` where no run has written."""

EMPTY, NEVER, OWN = "0", ".", "!"
_WORD = re.compile(r"[0.!]|[0-9a-f]{10}")


def print_of(plane: Plane) -> str:
    """Return the print of a slice, bool ``(rows, columns)``."""
    if not plane.any():
        return EMPTY
    return hashlib.blake2b(np.packbits(plane).tobytes(), digest_size=5).hexdigest()


@dataclass
class SlicePrints:
    """The prints of a segment's slices along an axis.

    Attributes:
        axis: The axis across the slices.
        prints: Print of each slice that a run has written; `OWN` for a slice that the user has accepted.
    """

    axis: Axis
    prints: dict[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, segment: slicer.vtkSegment) -> SlicePrints | None:
        """Return the prints in a segment's tag; None if it has none, or a damaged one."""
        found = _read(tag_of(segment, WRITTEN_TAG))
        return None if found is None else cls(found[0], dict(found[1]))

    def save(self, segment: slicer.vtkSegment) -> None:
        """Store the prints in the segment's tag, unless it has them already."""
        words = [self.prints.get(index, NEVER) for index in range(max(self.prints, default=-1) + 1)]
        text = " ".join([self.axis, *words])
        if tag_of(segment, WRITTEN_TAG) != text:
            segment.SetTag(WRITTEN_TAG, text)

    def is_users(self, index: int, plane: Plane) -> bool:
        """Return whether a slice was changed by something other than a run, or accepted by the user."""
        return print_of(plane) != self.prints.get(index, EMPTY)


@functools.lru_cache(maxsize=64)  # asked for by every section of the panel
def _read(text: str) -> tuple[Axis, dict[int, str]] | None:
    """Return axis and prints of a tag; None if it is damaged."""
    axis, *words = text.split(" ")
    if axis not in AXES or not all(_WORD.fullmatch(word) for word in words):
        return None
    return AXES[AXES.index(axis)], {index: word for index, word in enumerate(words) if word != NEVER}
