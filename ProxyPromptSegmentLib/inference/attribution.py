"""The "why" view: which support patches the model read for one point of the target (the paper's Selective Map).

It shows what was read, not whether that was right: a wrong mask has a Selective Map too.

References:
    Proxy Prompt, section 3.2, Eqs. 6 and 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.geometry import Axis, SliceView
from ProxyPromptSegmentLib.inference.feature_tiles import Box, Tiles, index_ijk, stored_box

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job, SupportSlice
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
    from ProxyPromptSegmentLib.networks.values import PreparedSupport

MOST_NAMED = 3
"""Largest number of cases, and of slices, that the sentence names."""


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One patch of one support slice, with its weight in the Selective Map.

    Attributes:
        pair: Number of the support pair in ``job.support.pairs``.
        weight: Share of the whole Selective Map, 0..1.
        inside: Share of the patch that the object's mask covers, 0..1.
        box: The patch on the pair's slice, in the pair's orientation.
        case: Number of the support case.
        name: Name of the case for display.
        axis: Slicing axis of the case's volume.
        slice_index: Index of the slice along it; None if the pair has none.
        stored_box: The box on the slice as stored in the case's volume; None if the orientation of the pair is unknown
            (``job.shown[pair].view`` is missing).
        center_ijk: Centre of the patch as index ``(i, j, k)`` of the case's volume, with fractions; None likewise.
    """

    pair: int
    weight: float
    inside: float
    box: Box
    case: int
    name: str
    axis: Axis
    slice_index: int | None
    stored_box: Box | None
    center_ijk: tuple[float, float, float] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Why:
    """The explanation of a prediction: what the model read for one point of the target.

    Attributes:
        index: Slice of the target along ``job.view.axis``.
        point: Row and column in the oriented slice, in pixels.
        name: The object.
        maps: For each support pair the weight of each pixel of its slice, float32 ``(H, W)``, oriented as the pair. A
            map sums to the pair's share.
        shares: Share of each pair in the Selective Map, float32 ``(K,)``; they sum to 1.
        patches: The patches of largest weight, in descending order.
        inside: Share of the Selective Map that lies on the object, 0..1.
        probability: Probability of the object at the point, 0..1, on this slice alone, without its neighbours.
        asked: The patch of the target that contains the point; all its points have the same explanation.
        patch_mm: Height and width of a target patch in mm, which is the resolution of the explanation.
        sentence: The result in words.
        caveat: The resolution and the limits of the explanation, in words.
    """

    index: int
    point: tuple[float, float]
    name: str
    maps: tuple[np.ndarray, ...]
    shares: np.ndarray
    patches: tuple[Patch, ...]
    inside: float
    probability: float
    asked: Box
    patch_mm: tuple[float, float]
    sentence: str
    caveat: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """A part of a support slice that the model read: the whole slice, or a tile of it.

    Attributes:
        pair: Number of the support pair.
        corner: First row and column of the part on the pair's slice.
        mask: The object's mask on the part, ``(h, w)``.
        spacing_mm: Pixel size (row, column).
    """

    pair: int
    corner: tuple[int, int]
    mask: np.ndarray
    spacing_mm: tuple[float, float]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """What the model saw when it predicted a point: a part of the target, and the parts of the support that it read.

    Attributes:
        encoded: The embedding of the target's part.
        corner: First row and column of this part on the slice.
        shape: Its rows and columns.
        prepared: The prepared parts of the support.
        parts: These parts, in the same order.
        object_index: Number of the object in ``prepared``.
        whole: Whether the parts are whole slices.
    """

    encoded: EncodedSlices
    corner: tuple[int, int]
    shape: tuple[int, int]
    prepared: PreparedSupport
    parts: tuple[Part, ...]
    object_index: int
    whole: bool = True


def explain(
    segmenter: Segmenter,
    job: Job,
    index: int,
    row: float,
    column: float,
    object_index: int,
    encoded: EncodedSlices | None = None,
    most: int = 6,
    prepared: PreparedSupport | None = None,
    views: Sequence[SliceView | None] | None = None,
    reading: Reading | None = None,
) -> Why:
    """Find the support patches that the model read for a point of the target.

    Args:
        segmenter: A model whose generator has a Selective Map.
        job: The job.
        index: Slice of the target along ``job.view.axis``, counted from 0.
        row: Row in the oriented slice (``job.view.take``), in pixels; whole numbers are pixel centres.
        column: Column likewise.
        object_index: Number of the object in ``job.support.objects``.
        encoded: The embedding of this slice; computed if None or of another slice.
        most: Largest number of patches to list.
        prepared: The result of ``segmenter.prepare(job.support)``; computed if None.
        views: Orientation of each support pair; by default ``job.shown[pair].view``.
        reading: What the model saw, if the object was segmented in tiles; by default whole slices.

    Raises:
        UsageError: If the point lies outside of the slice, or slice or object do not exist.
        DeviceError: If memory runs out.
    """
    objects, slices = job.support.objects, job.view.take(job.target.array)
    shape = (int(slices.shape[1]), int(slices.shape[2]))
    _check(index, len(slices), row, column, shape, object_index, objects)
    name = objects[object_index]
    if reading is None:
        reading = _whole(segmenter, job, slices[index], object_index, encoded, prepared)
    top, left = reading.corner
    target = Tiles.of(segmenter.letterbox(reading.shape, job.view.spacing_mm), segmenter.model.backbone.grid)
    token = target.at(row - top, column - left)
    weights = _read_from(segmenter, reading.encoded, reading.prepared, token)

    count = len(job.support.pairs)
    maps = tuple(np.zeros(pair.masks.shape[1:], np.float32) for pair in job.support.pairs)
    shares, covered, tiles = np.zeros(count), np.zeros(count), []
    for part, weight in zip(reading.parts, weights, strict=True):
        height, width = part.mask.shape
        own = segmenter.letterbox((height, width), part.spacing_mm)
        tiles.append(Tiles.of(own, segmenter.model.backbone.grid))
        spread = tiles[-1].spread(weight)
        maps[part.pair][_moved((slice(0, height), slice(0, width)), part.corner)] += spread
        shares[part.pair] += weight.sum()
        covered[part.pair] += float((spread * part.mask).sum(dtype=np.float64))
    answer = segmenter.predict(reading.encoded, reading.prepared, calibrated=reading.whole)[0]
    there = (int(row + 0.5) - top, int(column + 0.5) - left)
    probability = answer.probability[(reading.object_index, *there)] * answer.presence[reading.object_index]
    patch_mm = target.size_mm(token)
    asked = target.box(token)
    return Why(
        index=index,
        point=(float(row), float(column)),
        name=name,
        maps=maps,
        shares=shares.astype(np.float32),
        patches=_heaviest(job, weights, reading.parts, tiles, most, views),
        inside=float(covered.sum()),
        probability=float(probability),
        asked=(asked[0] + top, asked[1] + left, asked[2] + top, asked[3] + left),
        patch_mm=patch_mm,
        sentence=_sentence(name, job.shown, covered.tolist(), shares),
        caveat=f"The resolution is {patch_mm[0]:.3g} x {patch_mm[1]:.3g} mm. This is what the model read, not why it "
        "was right.",
    )


def _moved(box: tuple[slice, slice], corner: tuple[int, int]) -> tuple[slice, slice]:
    """Return a box of a part as a box of the whole slice."""
    rows, columns = (slice(one.start + first, one.stop + first) for one, first in zip(box, corner, strict=True))
    return rows, columns


def _whole(
    segmenter: Segmenter,
    job: Job,
    image: np.ndarray,
    object_index: int,
    encoded: EncodedSlices | None,
    prepared: PreparedSupport | None,
) -> Reading:
    """Return what the model sees of whole slices; reuse what fits."""
    shape = (int(image.shape[0]), int(image.shape[1]))
    box = segmenter.letterbox(shape, job.view.spacing_mm)
    if encoded is None or encoded.keys != (segmenter.key(image, job.window, box),):
        encoded = segmenter.encode(image[None], job.window, job.view.spacing_mm)
    if prepared is None or len(prepared.features) != len(job.support.pairs):
        prepared = segmenter.prepare(job.support_set)
    read = segmenter.read_by(encoded, prepared)
    return Reading(
        encoded=encoded,
        corner=(0, 0),
        shape=shape,
        prepared=prepared.supports(read),
        parts=tuple(
            Part(pair=number, corner=(0, 0), mask=pair.masks[object_index], spacing_mm=pair.spacing_mm)
            for number, pair in enumerate(job.support.pairs)
            if number in read
        ),
        object_index=object_index,
    )


def _check(
    index: int,
    count: int,
    row: float,
    column: float,
    shape: tuple[int, int],
    object_index: int,
    objects: Sequence[str],
) -> None:
    """Raise an error for a point, slice or object that does not exist.

    Raises:
        UsageError: If the point lies outside of the slice, or slice or object do not exist.
    """
    if not 0 <= index < count:
        raise UsageError(f"the target has no slice {index}; its slices are 0 to {count - 1} (counted from 0).")
    if not 0 <= object_index < len(objects):
        raise UsageError(
            f"object {object_index} does not exist; the support has {len(objects)} objects, counted from 0."
        )
    if not (-0.5 <= row < shape[0] - 0.5 and -0.5 <= column < shape[1] - 0.5):  # also NaN
        raise UsageError(
            f"the point (row {row:g}, column {column:g}) lies outside of the slice, which has {shape[0]} rows and "
            f"{shape[1]} columns; click on the image."
        )


def _read_from(
    segmenter: Segmenter, encoded: EncodedSlices, prepared: PreparedSupport, token: tuple[int, int]
) -> np.ndarray:
    """Return the Selective Map of one target position, float64 ``(K, g, g)``; it sums to 1."""
    import torch

    generator, grid = segmenter.model.generator, segmenter.model.backbone.grid
    with torch.inference_mode():
        position = torch.tensor([token[0] * grid + token[1]], device=prepared.features.device)
        return generator.why(encoded.features, prepared, position)[0].double().cpu().numpy()


def _heaviest(
    job: Job,
    weights: np.ndarray,
    parts: Sequence[Part],
    tiles: Sequence[Tiles],
    most: int,
    views: Sequence[SliceView | None] | None,
) -> tuple[Patch, ...]:
    """Return the patches of largest weight among all parts."""
    order = np.argsort(-weights, axis=None, kind="stable")[: max(0, most)]
    patches = []
    for place, *position in zip(*np.unravel_index(order, weights.shape), strict=True):
        number, token = int(place), (int(position[0]), int(position[1]))
        if weights[(number, *token)] <= 0:  # padding
            break
        part, own = parts[number], tiles[number]
        (top, left), shown = part.corner, job.shown[part.pair]
        view = views[part.pair] if views is not None else shown.view
        shape = (int(job.support.pairs[part.pair].masks.shape[1]), int(job.support.pairs[part.pair].masks.shape[2]))
        inner, center = own.box(token), own.center(token)
        box = (inner[0] + top, inner[1] + left, inner[2] + top, inner[3] + left)
        middle = (center[0] + top, center[1] + left)
        patches.append(
            Patch(
                pair=part.pair,
                weight=float(weights[(number, *token)]),
                inside=own.covered(token, part.mask),
                box=box,
                case=shown.case,
                name=shown.name,
                axis=shown.axis,
                slice_index=shown.index,
                stored_box=None if view is None else stored_box(box, shape, view),
                center_ijk=None if view is None else index_ijk(middle, shape, view, shown.index),
            )
        )
    return tuple(patches)


def _sentence(name: str, shown: Sequence[SupportSlice], covered: Sequence[float], shares: np.ndarray) -> str:
    """Word the result.

    Args:
        name: The object.
        shown: The source of each pair.
        covered: Share of the Selective Map that lies on the object, for each pair.
        shares: Share of the Selective Map, for each pair.
    """
    inside = sum(covered)
    if round(100 * inside) < 1:
        beside = int(np.argmax(shares))
        return (
            f"Almost nothing of what was read lies on '{name}'; most ({_percent(shares[beside])}) lies outside of it "
            f"{_where(shown, [beside])}."
        )
    of_case: dict[int, float] = {}
    for one, value in zip(shown, covered, strict=True):
        of_case[one.case] = of_case.get(one.case, 0.0) + value
    cases = [case for case in sorted(of_case, key=lambda c: -of_case[c]) if of_case[case] >= 0.05 * inside]
    places = [_places(shown, covered, case) for case in cases[:MOST_NAMED]]
    start = f"{_percent(inside)} of what was read lies on '{name}'"
    if len(cases) == 1:
        return f"{start} {places[0]}."
    each = [f"{_percent(of_case[case])} {place}" for case, place in zip(cases, places, strict=False)]
    return f"{start}: {'; '.join(each)}."


def _places(shown: Sequence[SupportSlice], covered: Sequence[float], case: int) -> str:
    """Name the slices of one case that hold nine tenths of its share on the object."""
    pairs = sorted((n for n, one in enumerate(shown) if one.case == case), key=lambda n: -covered[n])
    total, so_far, named = sum(covered[n] for n in pairs), 0.0, []
    for pair in pairs[:MOST_NAMED]:
        named.append(pair)
        so_far += covered[pair]
        if so_far >= 0.9 * total:
            break
    return _where(shown, named, so_far < 0.99 * total)


def _where(shown: Sequence[SupportSlice], pairs: Sequence[int], mostly: bool = False) -> str:
    """Word a place: ``in Case 3, slices 11 and 12``."""
    numbers = sorted({one.index for one in (shown[n] for n in pairs) if one.index is not None})
    if not numbers:
        return f"in {shown[pairs[0]].name}"
    listed = ", ".join(map(str, numbers[:-1])) + " and " if len(numbers) > 1 else ""
    words = f"{'slices' if len(numbers) > 1 else 'slice'} {listed}{numbers[-1]}"
    return f"in {shown[pairs[0]].name}, {'mostly ' if mostly else ''}{words}"


def _percent(share: float) -> str:
    """Word a share: ``62 %``."""
    return f"{100 * share:.0f} %"
