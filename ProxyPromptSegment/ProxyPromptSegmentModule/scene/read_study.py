"""A study of a folder as it was read for the scene; independent of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentModule.scene.facts import Facts

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
    from ProxyPromptSegmentModule.scene.terminology import Terminology


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadSegment:
    """A segment of a study's result.

    Attributes:
        name: Its name.
        color_rgb: Red, green, blue in 0..1.
        terminology: Its terminology entry, or None.
        mask: The voxels of the box that it fills; uint8 ``(k, j, i)``.
        start: Index ``(k, j, i)`` of the first voxel of the box in the image.
        written: Print of each slice as the program wrote it, see `slice_prints`; None if the user has drawn it alone.
        prints: Print of each slice that shows something.
        pixels: Number of pixels of each of these slices.
    """

    name: str
    color_rgb: tuple[float, float, float]
    terminology: Terminology | None
    mask: npt.NDArray[np.uint8]
    start: tuple[int, int, int]
    written: Mapping[int, str] | None
    prints: Mapping[int, str]
    pixels: Mapping[int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadStudy:
    """A study that was read.

    Attributes:
        path: Its file or folder.
        geometry: The grid of its image.
        voxels: The voxels of the image in the smallest type that holds them, for the scene.
        window: Lowest and highest intensity to be shown; None for colours.
        segments: What was found in it; None if it has no result.
        facts: What its report says, with the segments' names in the place of their ids.
        content: Hash of what the result was computed from; "" if it is not known.
    """

    path: Path
    geometry: VolumeGeometry
    voxels: npt.NDArray[np.number]
    window: tuple[float, float] | None
    segments: tuple[ReadSegment, ...] | None = None
    facts: Facts = field(default_factory=Facts)
    content: str = ""
