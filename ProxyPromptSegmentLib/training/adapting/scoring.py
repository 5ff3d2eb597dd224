"""Dice of cases that were left out, segmented with other cases as supports, in tiles where they are needed.

Unlike a user's segmentation, supports are not registered to the case, and each slice keeps its own result: neither
neighbours nor a post-processing of the volume change it.

Where the image encoder is frozen, the embeddings of slices and tiles are computed once for all models, else once for
each. Each slice is judged alone, because not all slices of a volume are segmented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ProxyPromptSegmentLib.evaluation.broad.baselines import stretch
from ProxyPromptSegmentLib.evaluation.mean_mask import mean_mask
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.calibration import Calibration
from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.inference.tiling.cut import MOST_READ as TILES_READ
from ProxyPromptSegmentLib.inference.tiling.cut import support_tiles
from ProxyPromptSegmentLib.inference.tiling.tiler import Tiler, plan_for
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedSupport
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.pairs import MOST_READ, Marked, SupportSet
from ProxyPromptSegmentLib.support.spreading import spread, with_all_objects
from ProxyPromptSegmentLib.training.adapting.calibrating import Row, rows_of
from ProxyPromptSegmentLib.training.adapting.result import CasePicture
from ProxyPromptSegmentLib.training.adapting.sheets import (
    Sheet,
    Sheets,
    support_set,
    supports_of,
)
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore

Supports = tuple[list[Sheet], SupportSet, PreparedSupport]
SLICES_IN_TILES = 2  # of a case, beside those of objects that they do not show; each has dozens of tiles
TILES_TOGETHER = 8


@dataclass(frozen=True, eq=False)
class Score:
    """Dice of each object of one case and of the copied mean mask, a picture of the worst slice, what slices say."""

    dice: tuple[float, ...]
    mean_mask: tuple[float, ...]
    picture: CasePicture
    rows: tuple[Row, ...] = ()


class Scorer:
    """Segments left-out cases with models that have the first model's image encoder, or their own."""

    def __init__(
        self,
        sheets: Sheets,
        store: FeatureStore,
        device: torch.device,
        calibration: Calibration | None,
        embeds: bool = False,
    ) -> None:
        """Create the scorer.

        Args:
            sheets: The sheets.
            store: The features of its slices.
            device: The device to compute on.
            calibration: That of the first model, which goes with its successors.
            embeds: Whether each model has an image encoder of its own, with which its slices are embedded.
        """
        self._embeds, self._embedded = embeds, {}  # type: tuple[bool, dict[int, EncodedSlices]]
        self._sheets, self._store, self._device, self._calibration = sheets, store, device, calibration
        self._place = {id(sheet): number for number, sheet in enumerate(store.sheets)}
        self._tiles: dict[tuple[int, int, str], EncodedSlices] = {}
        self._last: tuple[tuple[Segmenter, tuple[int, ...]], Supports] | None = None

    def segmenter(self, model: ProxyPromptModel) -> Segmenter:
        """Return a segmenter that reads supports as a user's does."""
        most = TILES_TOGETHER if self._sheets.in_tiles else 1
        return Segmenter(
            model, self._device, most, across_slices=False, calibration=self._calibration, most_read=MOST_READ
        )

    def score(
        self, segmenter: Segmenter, case: int, others: Sequence[int], cancel: CancelToken | None = None
    ) -> Score | None:
        """Segment a case with some others as supports; None if cancelled.

        Args:
            segmenter: See `segmenter`.
            case: Number of the case.
            others: Numbers of the cases that are supports.
            cancel: Checked between slices.
        """
        sources, support, prepared = self._supports(segmenter, others)
        targets = self._targets(case)
        first = targets[0]
        shape = (int(first.image.shape[0]), int(first.image.shape[1]))
        plan = plan_for(segmenter, support, shape, first.spacing_mm)
        names = support.objects
        tiler = None
        if plan.in_tiles:
            tiles = support_tiles(support, plan.in_tiles, plan.magnification)
            chosen = tuple(names[number] for number in plan.in_tiles)
            parts = [self._prepared_tile(segmenter, tile, chosen, sources[tile.pair], tile.corner) for tile in tiles]
            tiler = Tiler(segmenter, plan, tiles, PreparedSupport.concatenate(parts), TILES_READ)
        masks: list[np.ndarray] = []
        rows: list[Row] = []
        for sheet in targets:
            if cancel is not None and cancel.cancelled:
                return None
            answer = segmenter.predict(self._encoded(segmenter, sheet), prepared)[0]
            probability, presence = answer.probability.copy(), answer.presence.copy()
            if answer.evidence is not None:  # a tile's presence and confidence are the network's own
                said = rows_of(answer.evidence, sheet.masks, probability)
                rows += [row for row in said if int(row[0]) not in plan.in_tiles]
            if tiler is not None:
                keep = _keeper(self, segmenter, sheet)
                tiled = tiler.segment(sheet.image, 0, sheet.window, sheet.spacing_mm, cancel, None, keep)
                if tiled is None:
                    return None
                own = list(plan.in_tiles)
                probability[own], presence[own] = tiled.probability, tiled.presence
            masks.append(probability * presence[:, None, None] > THRESHOLD)
        found, truth = np.stack(masks), np.stack([sheet.masks for sheet in targets])
        copied = mean_mask(np.stack([stretch(pair.masks, shape) for pair in support.pairs]))
        numbers = range(len(names))
        return Score(
            tuple(dice(truth[:, n], found[:, n]) for n in numbers),
            tuple(dice(truth[:, n], np.repeat(copied[None, n], len(truth), axis=0)) for n in numbers),
            _picture_of(targets, found),
            tuple(rows),
        )

    def _supports(self, segmenter: Segmenter, others: Sequence[int]) -> Supports:
        """Return the supports that some cases make, prepared once for all cases that are left out together."""
        key = (segmenter, tuple(others))
        if self._last is None or self._last[0] != key:
            if self._embeds and (self._last is None or self._last[0][0] is not segmenter):
                self._embedded.clear()
                self._tiles.clear()
            sources = supports_of(self._sheets, others)
            support = support_set(self._sheets.objects, sources)
            parts = [segmenter.prepare_embedded(one, support.objects, self._encoded(segmenter, one)) for one in sources]
            self._last = (key, (sources, support, PreparedSupport.concatenate(parts)))
        return self._last[1]

    def _targets(self, case: int) -> list[Sheet]:
        """Return the slices that are segmented: all that are learned from, or a few where tiles make them dear.

        The few show every object: Dice of an object that no slice shows is 1 or 0, whatever a model has learned.
        """
        mine = self._sheets.of_case(case)
        if not self._sheets.in_tiles or len(mine) <= SLICES_IN_TILES:
            return mine
        shown = [sheet for sheet in mine if sheet.shown.any()]
        picked = spread(range(len(shown)), SLICES_IN_TILES)
        return [shown[n] for n in with_all_objects(picked, np.stack([sheet.shown for sheet in shown]))]

    def _encoded(self, segmenter: Segmenter, sheet: Sheet) -> EncodedSlices:
        """Return a sheet's embedding: that of the store, or the segmenter's own."""
        place = self._place[id(sheet)]
        if self._embeds:
            if place not in self._embedded:
                self._embedded[place] = segmenter.encode(sheet.image[None], sheet.window, sheet.spacing_mm)
            return self._embedded[place]
        features = self._store.features([self._store.variants[place][0]])
        return EncodedSlices(features=features, box=self._store.box(sheet), keys=("",))

    def _prepared_tile(
        self, segmenter: Segmenter, tile: Marked, names: tuple[str, ...], sheet: Sheet, corner: tuple[int, int]
    ) -> PreparedSupport:
        """Prepare a support tile, whose embedding is kept."""
        key = (self._place[id(sheet)], -1, repr((corner, tile.image.shape)))
        if key not in self._tiles:
            self._tiles[key] = segmenter.encode(tile.image[None], tile.window, tile.spacing_mm)
        return segmenter.prepare_embedded(tile, names, self._tiles[key])

    def kept_tiles(self, segmenter: Segmenter, sheet: Sheet, tiles: np.ndarray) -> MutableMapping[int, EncodedSlices]:
        """Return the kept embeddings of a slice's tiles by number, as `Tiler.segment` reads and completes them."""
        return _Kept(self._tiles, self._place[id(sheet)], segmenter, sheet, tiles)


def _picture_of(targets: Sequence[Sheet], found: np.ndarray) -> CasePicture:
    """Return a picture of the slice with the most wrong pixels; ``found`` is bool ``(S, N, H, W)``."""
    wrong = [int(np.count_nonzero((sheet.masks > 0) != one)) for sheet, one in zip(targets, found, strict=True)]
    worst = int(np.argmax(wrong))
    sheet = targets[worst]
    return CasePicture(
        case=sheet.case,
        index=sheet.index,
        image=sheet.image.copy(),  # else it would keep the whole volume
        reference=sheet.masks.copy(),
        found=found[worst].astype(np.uint8),
        window=sheet.window,
        spacing_mm=sheet.spacing_mm,
    )


def _keeper(
    scorer: Scorer, segmenter: Segmenter, sheet: Sheet
) -> Callable[[np.ndarray], MutableMapping[int, EncodedSlices]]:
    def keep(tiles: np.ndarray) -> MutableMapping[int, EncodedSlices]:
        return scorer.kept_tiles(segmenter, sheet, tiles)

    return keep


def _as(features: ImageFeatures, kind: torch.dtype) -> ImageFeatures:
    """Return features in another precision."""
    finer = None if features.high_res is None else tuple(level.to(kind) for level in features.high_res)
    return replace(features, top=features.top.to(kind), high_res=finer)


class _Kept(MutableMapping[int, EncodedSlices]):
    """Embeddings of a slice's tiles, which hold for every model with this image encoder."""

    def __init__(
        self,
        kept: dict[tuple[int, int, str], EncodedSlices],
        place: int,
        segmenter: Segmenter,
        sheet: Sheet,
        tiles: np.ndarray,
    ) -> None:
        self._kept, self._place, self._segmenter, self._sheet, self._tiles = kept, place, segmenter, sheet, tiles
        self._shape = repr(tiles.shape[1:])

    def __getitem__(self, number: int) -> EncodedSlices:
        """Return an embedding under the key of this segmenter, whose decoder may be another."""
        found = self._kept[self._place, number, self._shape]
        key = self._segmenter.key(self._tiles[number], self._sheet.window, found.box)
        return replace(found, features=_as(found.features, torch.float32), keys=(key,))

    def __setitem__(self, number: int, encoded: EncodedSlices) -> None:
        half = _as(encoded.features, torch.float16)
        self._kept[self._place, number, self._shape] = replace(encoded, features=half)

    def __delitem__(self, number: int) -> None:
        del self._kept[self._place, number, self._shape]

    def __iter__(self) -> Iterator[int]:
        """Return the numbers of the kept tiles."""
        return (n for place, n, shape in self._kept if place == self._place and shape == self._shape)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, number: object) -> bool:
        return (self._place, number, self._shape) in self._kept
