"""The support set: annotated slices of retrospective cases, from which the proxy prompt is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, SupportError
from ProxyPromptSegmentLib.imaging.geometry import slice_view
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation, default_color
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.support.matching import slice_depths, slice_names
from ProxyPromptSegmentLib.support.selecting import same_but_capitals, select_segments
from ProxyPromptSegmentLib.support.spreading import spread
from ProxyPromptSegmentLib.wording import quoted, ranges

MAX_SLICES = 8
MOST_READ = 4
"""Supports that a slice reads if more are given: those most like it."""


class Marked(Protocol):
    """An image with the masks of objects: a pair, or a part of one on which nothing need be marked.

    Attributes:
        image: Intensities as acquired; float32, shape ``(H, W)`` or ``(H, W, 3)``.
        masks: 1 inside each object, 0 outside; uint8, shape ``(N, H, W)``.
        spacing_mm: Pixel size ``(row, column)`` in mm.
        window: Intensities ``(low, high)`` that are mapped to 0..1.
        depth: Position of the slice along its volume, see `SupportPair`; None if it is not used.
    """

    @property
    def image(self) -> npt.NDArray[np.float32]:
        """See `Marked`."""

    @property
    def masks(self) -> npt.NDArray[np.uint8]:
        """See `Marked`."""

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """See `Marked`."""

    @property
    def depth(self) -> float | None:
        """See `Marked`."""

    @property
    def window(self) -> tuple[float, float]:
        """See `Marked`."""


@dataclass(frozen=True, eq=False)
class SupportPair:
    """One annotated slice of a retrospective case.

    Attributes:
        image: Intensities as acquired; float32, shape ``(H, W)`` or ``(H, W, 3)``.
        masks: 1 inside each object, 0 outside; uint8, shape ``(N, H, W)``; objects may overlap.
        spacing_mm: Pixel size ``(row, column)`` in mm.
        window: Intensities ``(low, high)`` that are mapped to 0..1.
        source: Description of the slice's origin, for messages.
        slice_index: Index along the case's slicing axis, counted from 0; None if there is none.
        depth: Position of the slice along its volume, -1 to 1, see `matching.slice_depths`; None if it is in none. It
            depends on how much of the body the volume shows.

    Raises:
        SupportError: If the shapes differ, a value is not allowed or every mask is empty.

    References:
        Proxy Prompt, section 3: the pair (I, M) of the support set S.
    """

    image: npt.NDArray[np.float32]
    masks: npt.NDArray[np.uint8]
    spacing_mm: tuple[float, float]
    window: tuple[float, float]
    source: str = ""
    slice_index: int | None = None
    depth: float | None = None

    def __post_init__(self) -> None:
        """Validate the values and make the arrays contiguous."""
        image, masks = np.ascontiguousarray(self.image, dtype=np.float32), np.ascontiguousarray(self.masks)
        what = self.source or "the support"
        if image.shape[2:] not in ((), (3,)) or image.ndim < 2 or masks.ndim != 3 or image.shape[:2] != masks.shape[1:]:
            raise SupportError(
                f"{what}: image has shape {image.shape}, masks {masks.shape}; both must share (H, W), with N masks in "
                "front. Export the segmentation in the volume's geometry."
            )
        if masks.size and not np.isin(masks, (0, 1)).all():
            raise SupportError(f"{what}: masks have values up to {masks.max()}; allowed are 0 outside and 1 inside.")
        if not masks.any():
            raise SupportError(f"{what}: every mask is empty; choose a slice on which an object is annotated.")
        if not np.isfinite(image).all():
            raise SupportError(f"{what}: the image has NaN or infinite intensity; replace these values first.")
        if not (np.isfinite(self.window).all() and self.window[0] < self.window[1]):
            raise SupportError(
                f"{what}: the intensity window {self.window} is empty; its lower end must be below its upper end."
            )
        if not (np.isfinite(self.spacing_mm).all() and min(self.spacing_mm) > 0):
            raise SupportError(f"{what}: the pixel size is {self.spacing_mm} mm; both numbers must be above 0.")
        if self.slice_index is not None and self.slice_index < 0:
            raise SupportError(f"{what}: the slice is number {self.slice_index}; slices are counted from 0.")
        if self.depth is not None and not -1 <= self.depth <= 1:
            raise SupportError(f"{what}: its position along the volume is {self.depth}; it must lie between -1 and 1.")
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "masks", masks.astype(np.uint8, copy=False))
        object.__setattr__(self, "spacing_mm", tuple(float(s) for s in self.spacing_mm))
        object.__setattr__(self, "window", tuple(float(w) for w in self.window))
        object.__setattr__(self, "slice_index", None if self.slice_index is None else int(self.slice_index))


@dataclass(frozen=True, eq=False)
class SupportSet:
    """Annotated slices of the same objects; each object is shown on at least one of them.

    Attributes:
        pairs: At least one pair; sizes may differ between pairs.
        objects: Name of each object, in the order of the masks.
        colors: Red, green, blue in 0..1 per object; Slicer's default colours if none are given.
        terminologies: Slicer's terminology entry per object, or None; ``values``: its value in a label map, or 0.

    Raises:
        SupportError: If there is no pair or object, names repeat, counts differ, or an object is on no pair.
    """

    pairs: tuple[SupportPair, ...]
    objects: tuple[str, ...]
    colors: tuple[tuple[float, float, float], ...] = ()
    terminologies: tuple[dict[str, Any] | None, ...] = ()
    values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Validate the counts and that every object is shown."""
        pairs, objects = tuple(self.pairs), tuple(str(name) for name in self.objects)
        colors = tuple(self.colors) or tuple(default_color(n) for n in range(len(objects)))
        terminologies = tuple(self.terminologies) or (None,) * len(objects)
        if not pairs or not objects:
            raise SupportError(
                f"the support has {len(pairs)} pairs and {len(objects)} objects; at least one of each is needed. "
                "Choose another support."
            )
        if len(set(objects)) < len(objects):
            raise SupportError(f"objects of the support share a name: {quoted(objects)}; give each its own.")
        folded = [name.casefold() for name in objects]
        alike = [name for name in objects if folded.count(name.casefold()) > 1]
        if alike:
            raise SupportError(same_but_capitals(alike))
        if not len(objects) == len(colors) == len(terminologies) or any(len(p.masks) != len(objects) for p in pairs):
            raise SupportError(
                f"the support names {len(objects)} objects, but has {len(colors)} colours, {len(terminologies)} "
                f"terminologies and {sorted({len(p.masks) for p in pairs})} masks per pair; the counts must agree."
            )
        shown = np.any([p.masks.any(axis=(1, 2)) for p in pairs], axis=0)
        if not shown.all():
            missing = [name for name, there in zip(objects, shown, strict=True) if not there]
            raise SupportError(
                f"no slice of the support shows {quoted(missing)}: the mask is empty. Choose another support or "
                "other slices, or leave the object out."
            )
        object.__setattr__(self, "pairs", pairs)
        object.__setattr__(self, "objects", objects)
        object.__setattr__(self, "colors", colors)
        object.__setattr__(self, "terminologies", terminologies)

    def __len__(self) -> int:
        """Return the number of pairs, K in the paper."""
        return len(self.pairs)


def support_from_volume(
    volume: Volume,
    segmentation: Segmentation,
    objects: Sequence[str] | None = None,
    slices: Sequence[int] | Literal["auto"] | None = None,
    axis: str = "k",
    max_slices: int = MAX_SLICES,
    oriented: bool = False,
) -> SupportSet:
    """Build a support set from annotated slices of a case.

    Args:
        volume: The retrospective case.
        segmentation: Its annotation, on the same grid.
        objects: Names of the segments to use, in upper or lower case; by default all that are not empty.
        slices: Indices along the axis. By default ("auto") annotated slices, evenly spaced, chosen so that
            every object is shown.
        axis: Slicing axis.
        max_slices: Largest number of slices when they are chosen automatically.
        oriented: Whether to use radiological orientation; the target's slices must then be oriented as well.

    Raises:
        SupportError: If sizes differ, a name is unknown, or a slice does not exist or is not annotated.
        GeometryError: If the sizes agree but the grids do not, or the axis is unknown.
    """
    if segmentation.geometry.shape_kji != volume.geometry.shape_kji:
        raise SupportError(
            f"the support's image {volume.name} has shape {volume.geometry.shape_kji}, its masks "
            f"{segmentation.geometry.shape_kji}; both must share (K, J, I). Export the segmentation in the volume's "
            "geometry."
        )
    if not segmentation.geometry.is_close(volume.geometry):
        raise GeometryError(
            f"the support's segmentation lies on another grid ({segmentation.geometry}) than its image {volume.name} "
            f"({volume.geometry}); give the segmentation that was drawn on this image."
        )
    chosen = select_segments(segmentation, objects)
    view = slice_view(volume.geometry, axis, oriented)
    images = view.take(volume.array)
    masks = np.stack([view.take(segment.mask) for segment in chosen], axis=1)
    indices = _chosen_slices(np.any(masks, axis=(2, 3)), [s.name for s in chosen], slices, axis, max_slices)
    low, high = intensity_window(volume.array)
    names, depths = slice_names(volume, axis), slice_depths(volume, view.axis)
    pairs = [
        SupportPair(
            images[n],
            masks[n],
            view.spacing_mm,
            (float(low), float(high)),
            f"{volume.name}, {names.name(n)}",
            slice_index=n,
            depth=None if depths is None else float(depths[n]),
        )
        for n in indices
    ]
    return SupportSet(
        tuple(pairs),
        tuple(s.name for s in chosen),
        tuple(s.color_rgb for s in chosen),
        tuple(s.terminology for s in chosen),
        tuple(int(s.metadata.get("label_value") or 0) for s in chosen),
    )


def _chosen_slices(
    shown: npt.NDArray[np.bool_],
    names: list[str],
    slices: Sequence[int] | str | None,
    axis: str,
    max_slices: int,
) -> list[int]:
    """Return the chosen slice indices; ``shown``, bool ``(S, N)``, marks annotated slices per object."""
    annotated = [int(n) for n in np.flatnonzero(shown.any(axis=1))]
    if slices is not None and not isinstance(slices, str):
        wanted = list(dict.fromkeys(int(n) for n in slices))
        outside = [n for n in wanted if not 0 <= n < len(shown)]
        empty = [n for n in wanted if n not in annotated and n not in outside]
        if outside or empty or not wanted:
            problem = f"slices {outside} do not exist" if outside else f"slices {empty} have no annotation"
            raise SupportError(
                f"{problem if wanted else 'no slice was given'}; along {axis} the objects {quoted(names)} are "
                f"annotated on {ranges(annotated)} (counted from 0). Choose among these."
            )
        return wanted
    if isinstance(slices, str) and slices != "auto":
        raise SupportError(f"slices is {slices!r}; allowed are 'auto' or a list of indices.")
    if max_slices < 1:
        raise SupportError(f"at most {max_slices} slices are allowed for the support; it needs at least one.")
    picks = set(spread(annotated, max_slices))
    for n in np.argsort(shown.sum(axis=0)):  # rare objects first
        if not shown[sorted(picks), n].any():
            picks.add(spread([int(s) for s in np.flatnonzero(shown[:, n])], 1)[0])
    while len(picks) > max_slices:
        spare = [s for s in sorted(picks) if shown[sorted(picks - {s})].any(axis=0).all()]
        if not spare:
            break  # each slice is the only one to show some object: keep one more rather than lose an object
        picks.remove(min(spare, key=lambda s: min(abs(s - other) for other in picks if other != s)))
    return sorted(picks)


def merge_supports(supports: Sequence[SupportSet]) -> SupportSet:
    """Join support sets of the same objects, e.g. from several cases; the first gives order and colours.

    Raises:
        SupportError: If there is none, or one lacks an object of another: its empty mask would mean "not here".
    """
    if not supports:
        raise SupportError("no supports to join; give at least one.")
    first = supports[0]
    names = [name.casefold() for name in first.objects]
    pairs: list[SupportPair] = []
    for support in supports:
        own = [name.casefold() for name in support.objects]
        if sorted(own) != sorted(names):
            raise SupportError(
                f"supports annotate different objects: {quoted(first.objects)} and {quoted(support.objects)}; "
                "choose the objects that all of them have."
            )
        order = [own.index(name) for name in names]
        pairs += [replace(pair, masks=pair.masks[order]) for pair in support.pairs]
    return SupportSet(tuple(pairs), first.objects, first.colors, first.terminologies, first.values)


def slice_that_shows_most(areas: npt.NDArray[np.integer], among: Sequence[int] | None = None) -> int | None:
    """Return the slice that shows most objects, and of those the one on which they are largest.

    Each object counts by its own largest slice, so that a small one beside a large one matters as much.

    Args:
        areas: Pixels of each object on each slice, ``(S, N)``.
        among: Slices to choose from; all by default.

    Returns:
        Its number, the first of several; None where nothing is marked.
    """
    numbers = [int(n) for n in np.flatnonzero(areas.any(axis=1)) if among is None or n in among]
    if not numbers:
        return None
    own = areas[numbers]
    parts = own / np.maximum(own.max(axis=0), 1)
    return numbers[max(range(len(numbers)), key=lambda at: (np.count_nonzero(own[at]), parts[at].sum(), -at))]
