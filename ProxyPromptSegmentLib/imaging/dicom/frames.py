"""Attributes of single frames: in the groups of each frame, in those that all share, or in the file itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

PLACE_GROUPS = (
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "FrameContentSequence",
    "PlanePositionVolumeSequence", "PlaneOrientationVolumeSequence", "MRDiffusionSequence", "MREchoSequence",
)  # fmt: skip


def frame_groups(dataset: Any, number: int, names: Iterable[str]) -> Any:
    """Return the attributes of some functional groups of a frame in one dataset, empty if it has none."""
    from pydicom.dataset import Dataset

    found = Dataset()
    own, shared = dataset.get("PerFrameFunctionalGroupsSequence"), dataset.get("SharedFunctionalGroupsSequence")
    for name in names:
        group = None
        if own and number < len(own):
            group = own[number].get(name)
        if not group and shared:
            group = shared[0].get(name)
        for element in group[0] if group else ():
            found.add(element)
    return found
