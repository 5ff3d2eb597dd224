"""The selective map of one target for supports that are less and less like it.

References:
    Proxy Prompt, section 11.2, Figures 5 and 10: the target itself, three images of growing mean square error, and an
    image of another modality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.conditions import foreign_support
from ProxyPromptSegmentLib.evaluation.in_context import pair_of
from ProxyPromptSegmentLib.evaluation.paper.loading import Loaded
from ProxyPromptSegmentLib.evaluation.paper.protocol import AVERAGE, Protocol
from ProxyPromptSegmentLib.evaluation.report.page import Panels
from ProxyPromptSegmentLib.evaluation.report.panels import Panel, slice_with_map, slice_with_masks
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.networks.letterbox import images_to_tensor, masks_to_tensor
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

MOST_COMPARED = 60  # training images whose likeness to the target is measured
HALF = 0.5  # share of a target position that must lie in the objects


@dataclass(frozen=True, eq=False)
class MapRow:
    """One support.

    Attributes:
        title: How like the target it is.
        source: Its name.
        error: Mean square error between both images at the network's size, of values of 0 to 255.
        dice: Dice of the objects, on average.
        weights: Where the target's objects look on it, ``(g, g)``, of sum 1.
        pair: The support.
    """

    title: str
    source: str
    error: float
    dice: float
    weights: npt.NDArray[np.float32]
    pair: SupportPair


def measure_maps(protocol: Protocol, segmenter: Segmenter, loaded: Sequence[Loaded], part: str) -> list[MapRow]:
    """Return the rows of the figure.

    Args:
        protocol: The figure; its last set has the target, its first one the image of another modality.
        segmenter: A model that reads supports.
        loaded: Both data sets.
        part: Part of the last set, whose first image that shows every object is the target.

    Raises:
        InputError: If a data set is missing, or has no image to choose.
    """
    missing = [need for need in protocol.sets if all(need is not one.need for one in loaded)]
    if missing:
        titles = " and ".join(f"{need.title} ({need.stand_in or 'no stand-in'})" for need in missing)
        raise InputError(f"{protocol.id} needs {titles} as well; add what is missing to the folder of the data sets.")
    target = next((case for case in (one.read() for one in loaded[-1].parts[part]) if _is_whole(case)), None)
    if target is None:
        raise InputError(f"no {part} image of {loaded[-1].title} shows every object; add some, or choose another part.")
    train = loaded[-1].parts["train"]
    places = np.unique(np.linspace(0, len(train) - 1, min(MOST_COMPARED, len(train))).round().astype(int))
    pool = [case for case in (train[n].read() for n in places) if _is_whole(case)]
    ranked = sorted(((_error(segmenter, target, case), case.name, case) for case in pool), key=lambda one: one[:2])
    if not ranked:
        raise InputError(f"no training image of {loaded[-1].title} shows every object; add some.")
    chosen = [target, ranked[0][2], ranked[len(ranked) // 2][2], ranked[-1][2]]
    other = next((case for case in (one.read() for one in loaded[0].parts["train"]) if _is_whole(case)), None)
    if other is None:
        raise InputError(f"no training image of {loaded[0].title} shows every object; add some.")
    foreign = foreign_support([other], target.objects, 1, 0).pairs[0]
    pairs = [*(pair_of(case, 0) for case in chosen), foreign]
    errors = [*(_error(segmenter, target, case) for case in chosen), _error(segmenter, target, other)]
    return [
        _row(segmenter, target, row.title, pair, error)
        for row, pair, error in zip(protocol.rows, pairs, errors, strict=True)
    ]


def _is_whole(case: Case) -> bool:
    """Return whether a case shows every object."""
    return bool(case.masks.any(axis=(0, 2, 3)).all())


def _row(segmenter: Segmenter, target: Case, title: str, pair: SupportPair, error: float) -> MapRow:
    """Segment the target with one support, and read the map at the positions of its objects."""
    import torch

    spacing = (1.0, 1.0) if target.spacing_mm is None else (target.spacing_mm[1], target.spacing_mm[2])
    prepared = segmenter.prepare(SupportSet((replace(pair, depth=None),), target.objects))
    masks = segmenter.segment(target.images, prepared, spacing_mm=spacing).masks()
    scores = [dice(target.masks[:, n], masks[:, n]) for n in range(len(target.objects))]
    encoded = segmenter.encode(target.images[:1], intensity_window(target.images), spacing)
    with torch.inference_mode():
        grid = segmenter.model.backbone.grid
        shown = masks_to_tensor(target.masks[:1].max(axis=1, keepdims=True), encoded.box).to(segmenter.device)
        cover = torch.nn.functional.adaptive_avg_pool2d(shown, grid).flatten()
        positions = torch.nonzero(cover >= min(HALF, float(cover.max())), as_tuple=True)[0]
        weights = segmenter.model.generator.why(encoded.features, prepared, positions).mean(dim=(0, 1))
    return MapRow(title, pair.source, error, float(np.mean(scores)), weights.float().cpu().numpy(), pair)


def _error(segmenter: Segmenter, one: Case, other: Case) -> float:
    """Return the mean square error of two images at the network's size, as grey values of 0 to 255."""
    seen = []
    for case in (one, other):
        box = segmenter.letterbox((int(case.images.shape[1]), int(case.images.shape[2])), (1.0, 1.0))
        seen.append(images_to_tensor(case.images[:1], intensity_window(case.images), box)[0].mean(0) * 255)
    return float(((seen[0] - seen[1]) ** 2).mean())


def to_markdown(protocol: Protocol, rows: Sequence[MapRow], start: str) -> str:
    """Return the table of the figure."""
    lines = [f"## {protocol.paper}, {protocol.id}: {protocol.title}", ""]
    lines += ["| support | image | mean square error | Dice of the target | published |", "|---|---|---|---|---|"]
    for row, said in zip(rows, protocol.rows, strict=True):
        figure = said.published.get(AVERAGE)
        published = "-" if figure is None else f"{figure / 100:.3f}"
        lines.append(f"| {row.title} | {row.source} | {row.error:.1f} | {row.dice:.3f} | {published} |")
    return "\n".join([*lines, "", start, protocol.note]) + "\n"


def panels_of(rows: Sequence[MapRow]) -> list[Panels]:
    """Return each support with its masks, and below it where the target's objects look."""
    supports, maps = [], []
    for row in rows:
        pair = row.pair
        supports.append(Panel(slice_with_masks(pair.image, pair.masks, pair.masks, pair.window), row.title))
        caption = f"Dice {row.dice:.3f}, mean square error {row.error:.0f}"
        maps.append(Panel(slice_with_map(pair.image, row.weights, pair.window), caption))
    return [Panels("Supports", supports), Panels("Where the target's objects look", maps)]
