"""The options of prompts by hand: ``--point``, ``--box`` and ``--mask``; what they say, and what is wrong with it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand, VoxelBox, VoxelMask, VoxelPoint

POINT_FORM = "[OBJECT=]I,J,K[,+|-]"
BOX_FORM = "[OBJECT=]I,J,K,I,J,K"
INDICES = "I, J, K are voxel indices of the target's file counted from 0 (column, row, slice; a picture has no K)"


def add_hand_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a subcommand."""
    group = parser.add_argument_group("prompts by hand", f"{INDICES}; whole numbers are the centres of voxels.")
    group.add_argument(
        "--point", action="append", default=[], metavar=POINT_FORM,
        help="a click inside (+) or outside (-) of an object, for its slice; repeat it for several, in the order of "
        "the clicks",
    )  # fmt: skip
    group.add_argument(
        "--box", action="append", default=[], metavar=BOX_FORM,
        help="a box around an object, its lowest and highest voxel; it prompts each slice that it spans",
    )  # fmt: skip
    group.add_argument(
        "--mask", action="append", default=[], type=Path, metavar="FILE",
        help="a rough segmentation of the target; each of its segments prompts the slices on which it is marked",
    )  # fmt: skip


def said_by_hand(points: Sequence[str], boxes: Sequence[str]) -> ByHand:
    """Return what points and boxes say; masks are read later, by `with_masks`.

    Raises:
        UsageError: If a text has another form.
    """
    return ByHand(tuple(map(point_of, points)), tuple(map(box_of, boxes)))


def with_masks(said: ByHand, masks: Sequence[Path], geometry: VolumeGeometry) -> ByHand:
    """Read the masks and add them; a single segment without a name is the only object that is mentioned otherwise.

    Args:
        said: Points and boxes.
        masks: Files of segmentations.
        geometry: The target's grid.

    Raises:
        ProxyPromptError: If a file cannot be read, or lies on another grid.
    """
    read: list[VoxelMask] = []
    for path in masks:
        for segment in read_segmentation(path, geometry).segments:
            if segment.mask.any():
                read.append(VoxelMask(segment.mask, segment.name))
    return ByHand(said.points, said.boxes, (*said.masks, *read))


def point_of(text: str) -> VoxelPoint:
    """Parse the text of a point.

    Raises:
        UsageError: If it has another form.
    """
    name, rest = _split(text)
    parts = [part.strip() for part in rest.split(",")]
    inside = True
    if parts and parts[-1] in ("+", "-"):
        inside = parts.pop() == "+"
    numbers = _numbers(parts)
    if numbers is None or len(numbers) not in (2, 3):
        raise UsageError(
            f"--point is '{text}'; write {POINT_FORM}, such as prostate=120,95,12 or prostate=60,40,12,- ({INDICES})."
        )
    return VoxelPoint(_three(numbers), inside, name)


def box_of(text: str) -> VoxelBox:
    """Parse the text of a box.

    Raises:
        UsageError: If it has another form.
    """
    name, rest = _split(text)
    numbers = _numbers([part.strip() for part in rest.split(",")])
    if numbers is None or len(numbers) not in (4, 6):
        raise UsageError(
            f"--box is '{text}'; write {BOX_FORM}, its lowest voxel first, such as prostate=80,70,12,150,130,12 "
            f"({INDICES})."
        )
    half = len(numbers) // 2
    return VoxelBox(_three(numbers[:half]), _three(numbers[half:]), name)


def _split(text: str) -> tuple[str | None, str]:
    """Return the object's name, None if there is none, and the rest; a name may contain ``=`` itself."""
    name, equals, rest = text.rpartition("=")
    return (name.strip() or None) if equals else None, rest


def _numbers(parts: Sequence[str]) -> list[float] | None:
    """Return ordinary decimal numbers; None if one is none."""
    plain = r"[+-]?(\d+(\.\d*)?|\.\d+)"
    return [float(part) for part in parts] if all(re.fullmatch(plain, part) for part in parts) else None


def _three(numbers: Sequence[float]) -> tuple[float, float, float]:
    """Return indices of a voxel; those of a picture lie on its only slice."""
    i, j, k = (*numbers, 0.0)[:3]
    return i, j, k
