"""Sheets: the slices of the cases, and the tiles of them, that are learned from and tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import slice_view, take_slices
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.slice_choice import slice_numbers
from ProxyPromptSegmentLib.inference.tiling.cut import support_tiles
from ProxyPromptSegmentLib.inference.tiling.plan import TilePlan, decide_by_masks
from ProxyPromptSegmentLib.support.matching import slice_depths
from ProxyPromptSegmentLib.support.pairs import MAX_SLICES, SupportPair, SupportSet
from ProxyPromptSegmentLib.support.spreading import spread, with_all_objects
from ProxyPromptSegmentLib.training.adapting.cases import CheckedCases, UsableCase

MOST_SHEETS = 160  # of all cases together
LEAST_EACH, MOST_EACH = 4, 16  # of a case
EMPTY_SHARE = 0.25  # of a case's slices without the objects, beside those that show one
LEAST_RUN = 3  # slices in a row from which an annotation counts as one of the whole structure
TILES_EACH, MOST_TILES = 24, 240  # of a case, and of all together


@dataclass(frozen=True, eq=False)
class Sheet:
    """An image with masks of ``N`` objects, of which none need be shown: a slice or a tile of one.

    Attributes:
        image: Intensities as acquired; float32, ``(H, W)`` or ``(H, W, 3)``.
        masks: 0 or 1; uint8, ``(N, H, W)``.
        spacing_mm: Pixel size (row, column).
        window: Intensities ``(low, high)`` that are mapped to 0..1.
        case: Number of its case.
        index: Index of the slice along the axis of its case.
        depth: Position of the slice along its volume, -1 to 1; None for a picture.
    """

    image: npt.NDArray[np.float32]
    masks: npt.NDArray[np.uint8]
    spacing_mm: tuple[float, float]
    window: tuple[float, float]
    case: int
    index: int
    depth: float | None = None

    @property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Whether it shows each object, bool ``(N,)``."""
        found: npt.NDArray[np.bool_] = np.any(self.masks, axis=(1, 2))
        return found

    def pair(self) -> SupportPair:
        """Return it as a pair of a support set; it must show an object."""
        return SupportPair(
            self.image, self.masks, self.spacing_mm, self.window, slice_index=self.index, depth=self.depth
        )


@dataclass(frozen=True, eq=False)
class Sheets:
    """Everything that is learned from.

    Attributes:
        objects: Names of the ``N`` objects.
        slices: Slices of all cases, in the order of the cases.
        tiles: Tiles of them, with masks of the objects in ``in_tiles`` alone; empty if no object needs tiles.
        in_whole: Numbers of the objects that are drawn in whole slices.
        in_tiles: Numbers of those that are drawn in tiles.
        patients: Number of the patient of each case.
    """

    objects: tuple[str, ...]
    slices: tuple[Sheet, ...]
    tiles: tuple[Sheet, ...]
    in_whole: tuple[int, ...]
    in_tiles: tuple[int, ...]
    patients: tuple[int, ...]

    def of_case(self, case: int) -> list[Sheet]:
        """Return the slices of one case."""
        return [sheet for sheet in self.slices if sheet.case == case]


def cut_sheets(checked: CheckedCases, logit_side: int, keep_aspect: bool = True) -> Sheets:
    """Choose the slices of all cases, and cut tiles of what is too thin for whole slices, as a segmentation does.

    Args:
        checked: The cases.
        logit_side: Side of the square of logits of the model's decoder.
        keep_aspect: Whether the model letterboxes slices.
    """
    each = int(np.clip(MOST_SHEETS // len(checked.cases), LEAST_EACH, MOST_EACH))
    slices = [sheet for number, case in enumerate(checked.cases) for sheet in _slices_of(case, number, each)]
    patients = tuple(case.patient for case in checked.cases)
    return with_tiles(checked.objects, slices, patients, logit_side, keep_aspect)


def with_tiles(
    objects: tuple[str, ...],
    slices: Sequence[Sheet],
    patients: tuple[int, ...],
    logit_side: int,
    keep_aspect: bool = True,
) -> Sheets:
    """Cut tiles of what is too thin for whole slices, as a segmentation does.

    Args:
        objects: Names of the ``N`` objects.
        slices: Slices of all cases, in the order of the cases.
        patients: Number of the patient of each case.
        logit_side: Side of the square of logits of the model's decoder.
        keep_aspect: Whether the model letterboxes slices.
    """
    plan = _plan(objects, slices, logit_side, keep_aspect)
    tiles: list[Sheet] = []
    if plan.in_tiles:
        most = int(np.clip(MOST_TILES // len(patients), LEAST_EACH, TILES_EACH))
        for number in range(len(patients)):
            shown = [sheet for sheet in slices if sheet.case == number and sheet.shown[list(plan.in_tiles)].any()]
            tiles += _tiles_of(shown, objects, plan, most)
    return Sheets(objects, tuple(slices), tuple(tiles), plan.in_whole, plan.in_tiles, patients)


def _plan(objects: tuple[str, ...], slices: Sequence[Sheet], side: int, keep_aspect: bool) -> TilePlan:
    marked = [(sheet.masks, sheet.spacing_mm) for sheet in slices if sheet.shown.any()]
    first = slices[0]
    shape = (int(first.image.shape[0]), int(first.image.shape[1]))
    return decide_by_masks(objects, marked, shape, first.spacing_mm, side, None, keep_aspect)


def _slices_of(case: UsableCase, number: int, each: int) -> list[Sheet]:
    """Return a case's slices that are learned from, evenly spaced, and some without the objects where that is sure."""
    volume = case.case.volume
    view = slice_view(volume.geometry, case.axis)
    images = view.take(volume.array)
    masks = np.stack([view.take(segment.mask) for segment in case.segments], axis=1)
    shown = np.flatnonzero(masks.any(axis=(1, 2, 3)))
    chosen = slice_numbers(case.case.slices, take_slices(volume.array, case.axis).shape[0])
    if chosen is not None:  # the user chose what shows the object well
        shown = np.array([n for n in shown if n in set(chosen)] or shown)
    picked = with_all_objects(spread(shown.tolist(), each), np.any(masks, axis=(2, 3)))
    if chosen is None and is_complete(shown):
        empty = [n for n in range(len(images)) if n not in set(shown.tolist())]
        picked += spread(empty, max(1, round(EMPTY_SHARE * len(picked))))
    low, high = intensity_window(volume.array)
    depths = slice_depths(volume, view.axis)
    return [
        Sheet(
            np.ascontiguousarray(images[n], dtype=np.float32),
            np.ascontiguousarray(masks[n]),
            view.spacing_mm,
            (float(low), float(high)),
            number,
            n,
            None if depths is None else float(depths[n]),
        )
        for n in sorted(picked)
    ]


def is_complete(shown: npt.NDArray[np.intp]) -> bool:
    """Return whether annotated slices follow one another, so that slices without a mask surely show no object.

    Where single slices of a volume are annotated, those between them may well show it.
    """
    return len(shown) >= LEAST_RUN and int(shown[-1] - shown[0]) == len(shown) - 1


def _tiles_of(shown: Sequence[Sheet], objects: tuple[str, ...], plan: TilePlan, most: int) -> list[Sheet]:
    """Return the tiles of a case, spread over its slices, a part of them background."""
    if not shown:
        return []
    numbers = list(plan.in_tiles)
    names = tuple(objects[n] for n in numbers if any(sheet.shown[n] for sheet in shown))
    kept = [n for n in numbers if objects[n] in names]
    pairs = tuple(
        SupportPair(sheet.image, sheet.masks[kept], sheet.spacing_mm, sheet.window, slice_index=sheet.index)
        for sheet in shown
        if sheet.shown[kept].any()
    )
    cut = support_tiles(SupportSet(pairs, names), range(len(names)), plan.magnification, most)
    made = []
    for tile in cut:
        masks = np.zeros((len(numbers), *tile.masks.shape[1:]), np.uint8)
        masks[[numbers.index(n) for n in kept]] = tile.masks
        index = pairs[tile.pair].slice_index
        made.append(Sheet(tile.image, masks, tile.spacing_mm, tile.window, shown[0].case, int(index or 0)))
    return made


def supports_of(sheets: Sheets, cases: Sequence[int]) -> list[Sheet]:
    """Return the support slices that a segmentation would choose of some cases: a share of each, every object shown.

    Args:
        sheets: The sheets.
        cases: Numbers of the cases.
    """
    share = max(1, -(-MAX_SLICES // len(cases)))
    chosen: list[Sheet] = []
    for case in cases:
        mine = [sheet for sheet in sheets.of_case(case) if sheet.shown.any()]
        shown = np.stack([sheet.shown for sheet in mine])
        chosen += [mine[n] for n in with_all_objects(spread(range(len(mine)), share), shown)]
    return chosen


def support_set(objects: tuple[str, ...], chosen: Sequence[Sheet]) -> SupportSet:
    """Return sheets as a support set."""
    return SupportSet(tuple(sheet.pair() for sheet in chosen), objects)
