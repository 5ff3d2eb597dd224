"""Where the planes of a DICOM image lie, and the grid that they form together.

The grid is fitted to all positions at once and every position is compared with it, so that small differences that add
up,
tilted gantries, interleaved orders, missing slices and several times or stacks are noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.imaging.dicom.frames import PLACE_GROUPS, frame_groups
from ProxyPromptSegmentLib.imaging.dicom.header import checked_numbers, frame_count, numbers, word
from ProxyPromptSegmentLib.imaging.dicom.spacing import PixelSize, pixel_size, slice_distance
from ProxyPromptSegmentLib.imaging.geometry import SAME_GRID_VOXELS, VolumeGeometry

UNEVEN = 0.1
"""Of the distance of slices: further from the fitted grid, a slice is missing or the distance changes."""

_TURNED = 1e-3  # of the direction cosines
_TILTED = 1e-3  # of the distance of slices, sideways
_SAME_MM = 1e-3
_CONTENTS = (
    ("StackID", "stack"), ("TemporalPositionIndex", "time"), ("TemporalPositionIdentifier", "time"),
    ("DiffusionBValue", "b-value"), ("EchoNumbers", "echo"), ("EffectiveEchoTime", "echo time"), ("KVP", "kV"),
)  # fmt: skip
_NUCLEAR = "1.2.840.10008.5.1.4.1.1.20"

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a plane lies: the centre of its first pixel, its directions and pixel size, in LPS mm.

    Attributes:
        origin: Centre of the first pixel, ``(3,)``.
        right: Direction in which the columns follow each other, unit vector.
        down: Direction in which the rows follow each other.
        size: Size of a pixel.
        distance: Distance of slices or thickness as the header says; None if it does not.
        stack: The stack, time or contrast that the plane belongs to, in words for messages.
    """

    origin: Vector
    right: Vector
    down: Vector
    size: PixelSize
    distance: float | None
    stack: str = ""

    @property
    def normal(self) -> Vector:
        """Direction across the plane."""
        return np.cross(self.right, self.down)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The grid of several planes.

    Attributes:
        order: For each slice of the grid, the plane that shows it.
        geometry: The grid; k grows along the normal of the planes.
        size: The size of its pixels.
        has_depth: Whether the distance of its slices is known, too.
    """

    order: tuple[int, ...]
    geometry: VolumeGeometry
    size: PixelSize
    has_depth: bool


def places_of(dataset: Any, name: str) -> list[Place] | None:
    """Return the place of each frame of a file; None if its header gives none.

    Raises:
        InputError: If only some frames have a place, or one is no place.
    """
    frames = frame_count(dataset)
    if frames == 1 and "PerFrameFunctionalGroupsSequence" not in dataset:
        found = _place(dataset, dataset, name)
        return None if found is None else [found]
    if "PerFrameFunctionalGroupsSequence" in dataset:
        if len(dataset.PerFrameFunctionalGroupsSequence) < frames:
            raise InputError(
                f"{name} declares {frames} frames and describes {len(dataset.PerFrameFunctionalGroupsSequence)}; "
                "export it again."
            )
        places = [_place(frame_groups(dataset, n, PLACE_GROUPS), dataset, name) for n in range(frames)]
        if all(place is None for place in places):
            return None
        if any(place is None for place in places):
            missing = sum(place is None for place in places)
            raise InputError(f"{missing} of the {frames} frames of {name} have no position; export it again.")
        return [place for place in places if place is not None]
    return _offset_frames(dataset, frames, name)


def _offset_frames(dataset: Any, frames: int, name: str) -> list[Place] | None:
    """Return the places of frames that a file gives as distances: doses, and tomograms of nuclear medicine."""
    if offsets := numbers(dataset, "GridFrameOffsetVector"):
        first = _place(dataset, dataset, name)
        if first is None or len(offsets) != frames:
            raise InputError(
                f"{name} gives {len(offsets)} distances for {frames} frames, or no position; export it again."
            )
        if offsets[0]:  # absolute ones, allowed for axial grids: they are coordinates along the normal
            offsets = [x - offsets[0] for x in offsets]
        return [_moved(first, x) for x in offsets]
    detectors = dataset.get("DetectorInformationSequence")
    step = numbers(dataset, "SpacingBetweenSlices")
    tomogram = word(dataset, "SOPClassUID") == _NUCLEAR and "RECON TOMO" in word(dataset, "ImageType").upper()
    if tomogram and detectors and step and numbers(dataset, "SliceVector") == list(range(1, frames + 1)):
        place = _place(detectors[0], dataset, name)
        return None if place is None else [_moved(place, n * step[0]) for n in range(frames)]
    return None


def _moved(place: Place, along: float) -> Place:
    """Return a place that lies further along its normal."""
    return Place(
        origin=place.origin + along * place.normal,
        right=place.right,
        down=place.down,
        size=place.size,
        distance=place.distance,
    )


def _place(plane: Any, whole: Any, name: str) -> Place | None:
    """Return the place of a plane; None if it has none."""
    for position, turn in (
        ("ImagePositionPatient", "ImageOrientationPatient"),
        ("ImagePositionVolume", "ImageOrientationVolume"),
    ):
        origin, cosines = (np.array(checked_numbers(plane, key, name)) for key in (position, turn))
        if not origin.size or not cosines.size:
            continue
        if origin.shape != (3,) or cosines.shape != (6,) or not np.isfinite([*origin, *cosines]).all():
            raise InputError(
                f"{name} has a position or orientation that is not made of finite numbers; export it again."
            )
        right, down = cosines[:3], cosines[3:]
        lengths = np.linalg.norm(right), np.linalg.norm(down)
        if abs(lengths[0] - 1) > 0.01 or abs(lengths[1] - 1) > 0.01 or abs(float(right @ down)) > 0.01:
            raise InputError(
                f"{name} has an orientation ({', '.join(f'{x:g}' for x in cosines)}) that is not two directions at "
                "right angles; export it again."
            )
        right = right / lengths[0]
        down = down - (down @ right) * right
        return Place(
            origin=origin,
            right=right,
            down=down / np.linalg.norm(down),
            size=pixel_size(plane, whole, name),
            distance=slice_distance(plane, whole),
            stack=_contents(plane),
        )
    return None


def _contents(plane: Any) -> str:
    """Return the stack, time and contrast of a plane in words, as ``b-value 500``; "" if nothing says them."""
    found = []
    for keyword, said in _CONTENTS:
        if value := word(plane, keyword):
            found.append(f"{said} {value[:20]}")
    return ", ".join(found)


def are_at_one_place(places: Sequence[Place]) -> bool:
    """Return whether all planes lie at the same place: a clip of one slice."""
    first = places[0]
    return len(places) > 1 and all(np.abs(one.origin - first.origin).max() < _SAME_MM for one in places)


def grid_of(places: Sequence[Place], size: tuple[int, int], what: str, noun: str = "slices") -> Grid:
    """Return the grid that planes form.

    Args:
        places: Their places, in any order.
        size: Columns and rows.
        what: What they are, for messages, as ``The DICOM series in x``.
        noun: What a plane is called: slices or frames.

    Raises:
        InputError: If they have several orientations or pixel sizes, several lie at one place, or they are unevenly
            spaced or shifted against each other.
    """
    first = places[0]
    for one in places:
        if max(np.abs(one.right - first.right).max(), np.abs(one.down - first.down).max()) > _TURNED:
            raise InputError(
                f"{what} mixes {noun} of several orientations (several stacks, or a localizer?); a volume has one. "
                "Export the stack that you mean as a volume of its own."
            )
        if not np.allclose(
            (one.size.row_mm, one.size.column_mm), (first.size.row_mm, first.size.column_mm), rtol=1e-3, atol=0
        ):
            raise InputError(
                f"{what} mixes {noun} of several pixel sizes; a volume has one. Export the stack that you mean as a "
                "volume of its own."
            )
    order, start, step = _fitted(places, what, noun)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (
        first.right * first.size.column_mm,
        first.down * first.size.row_mm,
        step,
    )
    affine[:3, 3] = start
    try:
        geometry = VolumeGeometry.from_affine(affine, (*size, len(places)))
    except GeometryError as error:
        raise InputError(f"{what}: {error}") from None
    has_depth = first.size.known and (len(places) > 1 or first.distance is not None)
    return Grid(order=order, geometry=geometry, size=first.size, has_depth=has_depth)


def _fitted(places: Sequence[Place], what: str, noun: str) -> tuple[tuple[int, ...], Vector, Vector]:
    """Return the order of planes along their normal, where the first lies, and the step from one to the next."""
    first = places[0]
    normal = first.normal
    inside = what[:1].lower() + what[1:] if what.startswith("The ") else what
    if len(places) == 1:
        return (0,), first.origin, normal * (first.distance or 1.0)
    along = np.array([float(normal @ one.origin) for one in places])
    order = np.argsort(along, kind="stable")
    origins = np.array([places[n].origin for n in order])
    gaps = np.diff(along[order])
    typical = float(np.median(gaps))
    same = max(_SAME_MM, 1e-2 * typical)
    if np.any(gaps <= same):
        at = int(np.count_nonzero(gaps > same)) + 1
        stacks = sorted({one.stack for one in places if one.stack})
        which = f": {'; '.join(stacks[:6])}{'; and more' * (len(stacks) > 6)}" if len(stacks) > 1 else ""
        raise InputError(
            f"{what} has several images at the same place ({len(places)} {'files' if noun == 'slices' else noun}, {at} "
            f"places{which}): a sequence in time or several contrasts. Export one of them as a volume of its own."
        )
    counted = np.arange(len(places))
    centred = counted - counted.mean()
    step = (centred @ (origins - origins.mean(axis=0))) / (centred @ centred)
    start = origins.mean(axis=0) - counted.mean() * step
    apart = float(normal @ step)
    off = origins - (start + counted[:, None] * step)
    lengthwise = np.abs(off @ normal)
    if lengthwise.max() > UNEVEN * apart or np.abs(gaps - typical).max() > 2 * UNEVEN * typical:
        place = int(np.abs(gaps - typical).argmax())
        raise InputError(
            f"The {noun} of {inside} are not evenly spaced: {typical:.3g} mm usually, {gaps[place]:.3g} mm after "
            f"{noun[:-1]} {place + 1} of {len(places)}. Some are missing, or the stack has to be resampled to even "
            "distances."
        )
    pixel = min(first.size.row_mm, first.size.column_mm)
    sideways = step - apart * normal
    drift = float(np.linalg.norm(sideways)) * (len(places) - 1)
    shifted = float(np.linalg.norm(off - (off @ normal)[:, None] * normal, axis=1).max())
    if np.linalg.norm(sideways) > _TILTED * apart and drift > SAME_GRID_VOXELS * pixel:
        degrees = float(np.degrees(np.arctan2(np.linalg.norm(sideways), apart)))
        raise InputError(
            f"The {noun} of {inside} are not stacked at right angles: each lies further to the side, by {degrees:.3g} "
            "degrees (tilted gantry). Resample the stack to a regular grid."
        )
    if shifted > max(0.5 * pixel, _SAME_MM):
        raise InputError(
            f"The {noun} of {inside} are shifted against each other by {shifted:.3g} mm within their planes; a volume "
            "has one grid. Export the stack that you mean as a volume."
        )
    return tuple(int(n) for n in order), origins[0], normal * apart if drift <= SAME_GRID_VOXELS * pixel else step
