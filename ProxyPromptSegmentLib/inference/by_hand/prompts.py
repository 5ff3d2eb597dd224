"""What a user says by hand of objects: on a slice for a network, and on the voxels of a target as it was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.geometry import SliceView, axis_number

DEFAULT_OBJECT = "object"
"""Name of what is marked by hand without a name and without a support."""

_NAMES = ("i", "j", "k")


@dataclass(frozen=True)
class Point:
    """A click on an oriented slice; whole numbers are the centres of pixels.

    Attributes:
        row: Row in pixels.
        column: Column in pixels.
        inside: Whether it lies inside the object (positive), not outside of it (negative).
    """

    row: float
    column: float
    inside: bool = True


@dataclass(frozen=True)
class Box:
    """A box on an oriented slice: centres of its first and last pixels, both included."""

    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True, eq=False)
class HandPrompt:
    """What a user says of one object on one slice, in the order in which it was said.

    Attributes:
        points: Clicks.
        box: A box around the object.
        mask: Roughly where the object is, 0 or 1, uint8 ``(H, W)``.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: npt.NDArray[np.uint8] | None = None

    @property
    def says_there(self) -> bool:
        """Whether it says that the slice shows the object; clicks outside of it alone do not."""
        marked = self.mask is not None and bool(self.mask.any())
        return marked or self.box is not None or any(point.inside for point in self.points)

    @property
    def extent(self) -> Box | None:
        """The box around the mask; None without one, or if it is empty."""
        if self.mask is None or not self.mask.any():
            return None
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return Box(float(rows[0]), float(columns[0]), float(rows[-1]), float(columns[-1]))

    def and_point(self, point: Point) -> HandPrompt:
        """Return the same with one more click."""
        return replace(self, points=(*self.points, point))

    def joined(self, other: HandPrompt) -> HandPrompt:
        """Return both; a box or mask of the other one replaces this one's."""
        return HandPrompt(
            self.points + other.points,
            self.box if other.box is None else other.box,
            self.mask if other.mask is None else other.mask,
        )


OnSlice = dict[int, HandPrompt]
"""What is said on one slice, by number of the object."""


@dataclass(frozen=True)
class VoxelPoint:
    """A click on a voxel of the target.

    Attributes:
        ijk: Indices as the target's file has them, counted from 0; fractions lie between centres.
        inside: See `Point`.
        object: Name of the object; None for the only one.
    """

    ijk: tuple[float, float, float]
    inside: bool = True
    object: str | None = None

    def __str__(self) -> str:
        """Return it as the command line has it."""
        return _named(self.object, f"{_listed(self.ijk)},{'+' if self.inside else '-'}")


@dataclass(frozen=True)
class VoxelBox:
    """A box of voxels of the target, both corners included; it prompts each slice that it spans.

    Attributes:
        first: Lowest indices ``i, j, k``.
        last: Highest indices.
        object: Name of the object; None for the only one.
    """

    first: tuple[float, float, float]
    last: tuple[float, float, float]
    object: str | None = None

    def __str__(self) -> str:
        """Return it as the command line has it."""
        return _named(self.object, f"{_listed(self.first)},{_listed(self.last)}")


@dataclass(frozen=True, eq=False)
class VoxelMask:
    """A mask on the target's grid; it prompts each slice on which it is marked.

    Attributes:
        voxels: 0 or 1, uint8 ``(K, J, I)``.
        object: Name of the object.
    """

    voxels: npt.NDArray[np.uint8]
    object: str


@dataclass(frozen=True)
class ByHand:
    """All that a user says by hand of one target."""

    points: tuple[VoxelPoint, ...] = ()
    boxes: tuple[VoxelBox, ...] = ()
    masks: tuple[VoxelMask, ...] = ()

    def __bool__(self) -> bool:
        """Return whether anything is said."""
        return bool(self.points or self.boxes or self.masks)

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects in the order in which they are first mentioned, for a target without a support."""
        every: list[VoxelPoint | VoxelBox | VoxelMask] = [*self.points, *self.boxes, *self.masks]
        return tuple(dict.fromkeys(one.object or DEFAULT_OBJECT for one in every))

    def on_slices(self, view: SliceView, shape_kji: tuple[int, int, int], names: tuple[str, ...]) -> dict[int, OnSlice]:
        """Return what is said on each slice of a view.

        Args:
            view: The slicing axis of the target, and the orientation of its slices.
            shape_kji: Shape of the target.
            names: The objects.

        Raises:
            UsageError: If an object is unknown, a point or box lies outside of the image, or a box is reversed.
        """
        found: dict[int, OnSlice] = {}

        def add(number: int, name: str | None, said: HandPrompt) -> None:
            on_slice, which = found.setdefault(number, {}), _number_of(name, names)
            on_slice[which] = on_slice.get(which, HandPrompt()).joined(said)

        for mask in self.masks:
            slices = view.take(mask.voxels)
            for number in np.flatnonzero(slices.any(axis=(1, 2))).tolist():
                add(number, mask.object, HandPrompt(mask=np.ascontiguousarray(slices[number])))
        for box in self.boxes:
            for number, placed in _placed_box(box, view, shape_kji):
                add(number, box.object, HandPrompt(box=placed))
        for point in self.points:
            _check_inside(f"the point {point}", point.ijk, shape_kji)
            place, row, column = view.point(_kji(point.ijk), shape_kji)
            add(_nearest(place), point.object, HandPrompt((Point(row, column, point.inside),)))
        return found


def only_outside(prompts: Mapping[int, OnSlice], names: tuple[str, ...]) -> str | None:
    """Return the name of an object that is nowhere said to be there; None if there is none."""
    there = {number for said in prompts.values() for number, hand in said.items() if hand.says_there}
    said_of = {number for said in prompts.values() for number in said}
    return next((names[number] for number in sorted(said_of - there)), None)


def _number_of(name: str | None, names: tuple[str, ...]) -> int:
    """Return the number of an object by its name in upper or lower case; None is the only one."""
    if name is None:
        if len(names) == 1:
            return 0
        raise UsageError(
            f"a point or box names no object, but there are {len(names)}: {', '.join(names)}; write the name in front "
            f"of it, such as '{names[0]}=12,30,5'."
        )
    same = [number for number, one in enumerate(names) if one.strip().casefold() == name.strip().casefold()]
    if not same:
        raise UsageError(f"there is no object '{name}' to be marked by hand; the objects are {', '.join(names)}.")
    return same[0]


def _placed_box(box: VoxelBox, view: SliceView, shape_kji: tuple[int, int, int]) -> Iterable[tuple[int, Box]]:
    """Yield the slices that a box spans, and the box on them."""
    what = f"the box {box}"
    for first, last, name in zip(box.first, box.last, _NAMES, strict=True):
        if first > last:
            raise UsageError(
                f"{what} runs backwards along {name}, from {first:g} to {last:g}; give its lowest i, j, k first, then "
                "its highest."
            )
    _check_inside(what, box.first, shape_kji)
    _check_inside(what, box.last, shape_kji)
    across = 2 - axis_number(view.axis)
    if any(first == last for n, (first, last) in enumerate(zip(box.first, box.last, strict=True)) if n != across):
        raise UsageError(
            f"{what} is only a line on slices along {view.axis}; give two corners that differ along the two other axes."
        )
    one = view.point(_kji(box.first), shape_kji)
    other = view.point(_kji(box.last), shape_kji)
    placed = Box(min(one[1], other[1]), min(one[2], other[2]), max(one[1], other[1]), max(one[2], other[2]))
    for number in range(_nearest(one[0]), _nearest(other[0]) + 1):
        yield number, placed


def _check_inside(what: str, ijk: tuple[float, float, float], shape_kji: tuple[int, int, int]) -> None:
    """Refuse indices that lie outside of the target.

    Raises:
        UsageError: If one does.
    """
    for value, size, name in zip(ijk, reversed(shape_kji), _NAMES, strict=True):
        if not -0.5 <= value < size - 0.5:
            raise UsageError(
                f"{what} lies outside of the image: {name} is {value:g}, the image has {name} from 0 to {size - 1}. "
                "Indices are those of the target's file, counted from 0."
            )


def _nearest(place: float) -> int:
    """Return the index whose voxel contains a place; a voxel begins half a voxel before its centre."""
    return int(np.floor(place + 0.5))


def _kji(ijk: tuple[float, float, float]) -> tuple[float, float, float]:
    i, j, k = ijk
    return k, j, i


def _listed(ijk: tuple[float, float, float]) -> str:
    return ",".join(f"{value:g}" for value in ijk)


def _named(name: str | None, text: str) -> str:
    return text if name is None else f"{name}={text}"
