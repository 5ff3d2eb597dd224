"""The decision whether objects are segmented in tiles, made from the support's masks alone, without torch.

A network draws masks on a grid that is coarser than the image. An object of which too little survives on this grid,
even if the network is right everywhere, is segmented in tiles instead of whole slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.tiling.choice import OFF, ON, TileChoice
from ProxyPromptSegmentLib.inference.tiling.grid import TileGrid
from ProxyPromptSegmentLib.networks.letterbox import Letterbox
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind, Severity
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.support.pieces import MarkedSlice

TOO_LITTLE = 0.8
"""Dice between a support's masks and the same masks on the network's grid below which an object needs tiles.

Measured on a grid of 128: retinal vessels have 0.34 to 0.74, all other structures of 70 public sets at least 0.83."""

ENOUGH, MARGIN = 0.95, 2
"""The smallest magnification is chosen with which a structure keeps this Dice on a grid that is coarser by this factor
than the network's own: what fills a single position of the grid is held by it, but not recognised by the network.

On validation patients of DRIVE this gives a magnification of 6, with Dice 0.76; 3, which the grid would do with, 0.67;
8, 0.75; whole slices 0.32."""

MAGNIFICATIONS = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)

MOST_TILES = 64
"""Largest number of tiles of one slice, unless the user chooses the magnification."""

THIN = 0.05
"""Compactness (4 pi area / perimeter^2, with the perimeter along pixel edges) below which such an object is thin.

A disc has 0.62, a square 0.79, a line fifty times longer than wide 0.06."""

PREPARING, SEGMENTING = "preparing tiles of the support", "segmenting in tiles"
"""Names of the stages whose steps are tiles."""


@dataclass(frozen=True)
class TilePlan:
    """What is segmented in tiles, and how.

    Attributes:
        names: Names of the ``N`` objects.
        choice: The user's choice.
        needed: For each object whether it is too thin or too small for whole slices.
        tiled: For each object whether it is segmented in tiles.
        thin: For each object whether it is thin, see `SegmentResult`.
        whole_dice: For each object the Dice that a perfect prediction of whole slices reaches on the supports.
        tiled_dice: The same in tiles of this magnification.
        magnification: How many times larger a tile shows a structure than a whole slice does; 1 without tiles.
        grid: The tiles of a slice of the target.
    """

    names: tuple[str, ...]
    choice: TileChoice
    needed: tuple[bool, ...]
    tiled: tuple[bool, ...]
    thin: tuple[bool, ...]
    whole_dice: tuple[float, ...]
    tiled_dice: tuple[float, ...]
    magnification: float
    grid: TileGrid

    @property
    def in_tiles(self) -> tuple[int, ...]:
        """Numbers of the objects that are segmented in tiles."""
        return tuple(number for number, tiled in enumerate(self.tiled) if tiled)

    @property
    def in_whole(self) -> tuple[int, ...]:
        """Numbers of the objects that are segmented in whole slices."""
        return tuple(number for number, tiled in enumerate(self.tiled) if not tiled)

    @property
    def tiles(self) -> int:
        """Number of tiles of a slice; 0 without tiles."""
        return len(self.grid) if any(self.tiled) else 0

    def whole(self) -> TilePlan:
        """Return the plan without tiles, for computations that do not use them."""
        nothing = (False,) * len(self.names)
        grid = TileGrid.of(self.grid.shape, (1.0, 1.0), 1.0)
        return TilePlan(
            self.names, self.choice, self.needed, nothing, nothing, self.whole_dice, self.whole_dice, 1.0, grid
        )

    def notes(self, tracked: bool = False) -> list[Note]:
        """Return what the user should know: that tiles are used, or that they are needed and not used.

        Args:
            tracked: Whether the slices or frames are tracked, which knows no tiles.
        """
        if any(self.tiled):
            return [self._on_tiles()]
        lacking = [number for number, needed in enumerate(self.needed) if needed]
        if not lacking:
            return []
        if tracked:
            remedy = Remedy(kind=RemedyKind.SEGMENT_IN_TILES)
            return [Note(f"{self._too_thin(lacking)} Tracking does not use tiles.", remedy)]
        return [Note(f"{self._too_thin(lacking)} Tiles are turned off.")]

    def _on_tiles(self) -> Note:
        numbers = self.in_tiles
        lacking = [number for number in numbers if self.needed[number]]
        how = (
            f"{self._listed(numbers)} {'is' if len(numbers) == 1 else 'are'} segmented in {len(self.grid)} overlapping "
            f"tiles per slice, {self.magnification:g} times larger"
        )
        if not lacking:
            return Note(f"{how}, as chosen.", Remedy(kind=RemedyKind.CHOOSE_TILES), Severity.INFORMATION)
        best = min(self.tiled_dice[number] for number in lacking)
        text = f"{self._too_thin(lacking)} So {how}, where Dice can reach {best:.2f}."
        return Note(text, Remedy(kind=RemedyKind.CHOOSE_TILES), Severity.INFORMATION)

    def _too_thin(self, numbers: Sequence[int]) -> str:
        least = min(self.whole_dice[number] for number in numbers)
        return (
            f"{self._listed(numbers)} {'is' if len(numbers) == 1 else 'are'} too thin or too small for this model on "
            f"whole slices: even a perfect prediction could not exceed a Dice of {least:.2f} on the supports."
        )

    def _listed(self, numbers: Sequence[int]) -> str:
        quoted = [f"'{self.names[number]}'" for number in numbers]
        return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def decide(
    support: SupportSet,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    side: int,
    choice: TileChoice | None = None,
    keep_aspect: bool = True,
) -> TilePlan:
    """Decide which objects are segmented in tiles, and the magnification.

    Args:
        support: The support set.
        shape: Rows and columns of a slice of the target.
        spacing_mm: Its pixel size (row, column).
        side: Side of the square of logits that the decoder predicts, see `logit_side`.
        choice: The user's choice; ``auto`` by default.
        keep_aspect: See `Letterbox`.
    """
    marked = [(pair.masks, pair.spacing_mm) for pair in support.pairs]
    return decide_by_masks(support.objects, marked, shape, spacing_mm, side, choice, keep_aspect)


def decide_by_masks(
    names: tuple[str, ...],
    marked: Sequence[MarkedSlice],
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    side: int,
    choice: TileChoice | None = None,
    keep_aspect: bool = True,
) -> TilePlan:
    """Decide as `decide`, from the masks of ``N`` named objects on the support's slices."""
    choice = choice or TileChoice()
    numbers = range(len(names))
    whole = tuple(kept_dice(marked, number, side, keep_aspect) for number in numbers)
    needed = tuple(dice < TOO_LITTLE for dice in whole)
    tiled = needed if choice.mode != ON else (True,) * len(whole)
    if choice.mode == OFF:
        tiled = (False,) * len(whole)
    magnification = 1.0
    if any(tiled):
        wanted = [number for number in numbers if tiled[number]]
        magnification = choice.magnification or _magnification(marked, wanted, shape, spacing_mm, side, keep_aspect)
    return TilePlan(
        names=names,
        choice=choice,
        needed=needed,
        tiled=tiled,
        thin=tuple(tiled[n] and needed[n] and compactness(marked, n) < THIN for n in numbers),
        whole_dice=whole,
        tiled_dice=tuple(
            kept_dice(marked, number, round(side * magnification), keep_aspect) if tiled[number] else whole[number]
            for number in numbers
        ),
        magnification=magnification,
        grid=TileGrid.of(shape, spacing_mm, magnification),
    )


def whole_slices(names: tuple[str, ...], shape: tuple[int, int], spacing_mm: tuple[float, float]) -> TilePlan:
    """Return the plan of objects of which no mask is known: whole slices, and nothing is said about how thin they are.

    Args:
        names: Names of the objects.
        shape: Rows and columns of a slice of the target.
        spacing_mm: Its pixel size (row, column).
    """
    nothing, perfect = (False,) * len(names), (1.0,) * len(names)
    grid = TileGrid.of(shape, spacing_mm, 1.0)
    return TilePlan(names, TileChoice(OFF), nothing, nothing, nothing, perfect, perfect, 1.0, grid)


def _magnification(
    marked: Sequence[MarkedSlice],
    wanted: Sequence[int],
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    side: int,
    keep_aspect: bool,
) -> float:
    """Return the smallest magnification with which all wanted objects survive, or the largest that is bounded."""
    best = MAGNIFICATIONS[0]
    sizes = [(shape, spacing_mm), *(((masks.shape[1], masks.shape[2]), mm) for masks, mm in marked)]
    for magnification in MAGNIFICATIONS:
        if any(len(TileGrid.of(*size, magnification)) > MOST_TILES for size in sizes):
            break
        best = magnification
        coarse = round(side * magnification / MARGIN)
        if all(kept_dice(marked, number, coarse, keep_aspect) >= ENOUGH for number in wanted):
            break
    return best


def kept_dice(marked: Sequence[MarkedSlice], number: int, side: int, keep_aspect: bool = True) -> float:
    """Return the Dice between an object's masks and the same masks on a coarser grid, over all slices together.

    Args:
        marked: The support's slices.
        number: 0-based number of the object.
        side: Side of the grid in the letterbox of a whole slice.
        keep_aspect: See `Letterbox`.

    Returns:
        0..1; 1 where the grid is not coarser than the slices.
    """
    common = total = 0
    for masks, spacing_mm in marked:
        mask = masks[number]
        if not mask.any():
            continue
        coarse = coarse_mask(mask, spacing_mm, side, keep_aspect)
        common += 2 * int(np.count_nonzero(coarse & (mask > 0)))
        total += int(np.count_nonzero(coarse)) + int(np.count_nonzero(mask))
    return common / total if total else 1.0


def coarse_mask(
    mask: npt.NDArray[np.uint8], spacing_mm: tuple[float, float], side: int, keep_aspect: bool = True
) -> npt.NDArray[np.bool_]:
    """Return what remains of a mask ``(H, W)`` of which each position of a coarser grid knows its share; ``(H, W)``."""
    from PIL import Image

    rows, columns = Letterbox(side, (mask.shape[0], mask.shape[1]), spacing_mm, keep_aspect).valid
    small = (min(columns, mask.shape[1]), min(rows, mask.shape[0]))
    if small == (mask.shape[1], mask.shape[0]):
        return mask > 0
    share = Image.fromarray(mask.astype(np.float32)).resize(small, Image.Resampling.BILINEAR)
    return np.asarray(share.resize((mask.shape[1], mask.shape[0]), Image.Resampling.BILINEAR)) >= 0.5


def compactness(marked: Sequence[MarkedSlice], number: int) -> float:
    """Return the compactness of an object where it is largest, see `THIN`."""
    mask = max((masks[number] for masks, _ in marked), key=np.count_nonzero) > 0
    framed = np.pad(mask, 1)
    perimeter = sum(int(np.count_nonzero(np.diff(framed, axis=axis))) for axis in (0, 1))
    return 4 * math.pi * int(np.count_nonzero(mask)) / max(1, perimeter) ** 2


@dataclass(frozen=True)
class TileUse:
    """How tiles were used in a run.

    Attributes:
        plan: The plan.
        supports: Number of support tiles that were prepared.
        read: Number of these that each tile of the target read.
        embedded: Number of tiles of the target that had to be embedded.
    """

    plan: TilePlan
    supports: int
    read: int
    embedded: int
