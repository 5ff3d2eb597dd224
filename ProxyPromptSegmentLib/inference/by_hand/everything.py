"""Everything that a slice shows: a click on each point of a grid, and of their masks those that are good and distinct.

The steps and their order are those of segment-anything's ``SamAutomaticMaskGenerator`` on the whole image, for every
SAM and SAM 2: three readings of each click, a least estimated IoU, a least stability, and of masks with nearly the same
box the best. Of the compact models' masks, those that cut better ones into pieces are left out as well. Masks that are
kept until the end of a slice are kept as bits, and only those that the estimated IoU lets through are enlarged at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ProxyPromptSegmentLib.errors import DeviceError
from ProxyPromptSegmentLib.inference.by_hand.decode import READINGS
from ProxyPromptSegmentLib.inference.by_hand.duplicates import apart, box_of, distinct
from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice, FoundMask
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices, SliceEncoder
from ProxyPromptSegmentLib.networks.devices import is_out_of_memory
from ProxyPromptSegmentLib.networks.letterbox import Letterbox, logits_to_slice, points_to_square
from ProxyPromptSegmentLib.networks.model import COMPACT_NAMES
from ProxyPromptSegmentLib.networks.values import Prompt
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind

STABILITY_OFFSET = 1.0
MOST_OVERLAP = 0.7
"""Intersection over union of two boxes above which the worse mask is left out, as in the package."""


@dataclass
class _Kept:
    """A mask that passed the filters of its batch, as bits."""

    bits: npt.NDArray[np.uint8]
    box: tuple[float, float, float, float]
    quality: float
    stability: float
    point: npt.NDArray[np.float64]


def grid_points(side: int, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the centres ``(x, y)`` of ``side`` times ``side`` equal parts of a slice, row by row, ``(side**2, 2)``."""
    along = (np.arange(side) + 0.5) / side
    rows, columns = along * shape[0] - 0.5, along * shape[1] - 0.5
    return np.stack([np.tile(columns, side), np.repeat(rows, side)], axis=1)


def of_model(encoder: SliceEncoder, choice: EverythingChoice) -> EverythingChoice:
    """Return a choice with the limits of the model where it has none of its own."""
    return choice.of_model(encoder.model.backbone.name in COMPACT_NAMES)


def everything_on(
    encoder: SliceEncoder,
    encoded: EncodedSlices,
    choice: EverythingChoice | None = None,
    cancel: CancelToken | None = None,
    on_points: Callable[[int], None] | None = None,
) -> list[FoundMask] | None:
    """Find everything on one embedded slice.

    Args:
        encoder: The model.
        encoded: The slice.
        choice: Which masks are kept.
        cancel: Checked before each batch of points.
        on_points: Called with the number of points of each finished batch.

    Returns:
        The masks, best first; None if cancelled.

    Raises:
        DeviceError: If even one point does not fit into memory.
    """
    choice, box = of_model(encoder, choice or EverythingChoice()), encoded.box
    points, kept = grid_points(choice.points, box.shape), list[_Kept]()
    done, batch = 0, choice.batch
    while done < len(points):
        if cancel is not None and cancel.cancelled:
            return None
        part = points[done : done + batch]
        try:
            with torch.inference_mode(), encoder.precision():
                kept += list(_passing(encoder, encoded, part, choice))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if batch == 1:
                raise DeviceError(
                    f"a single point does not fit into the memory of {encoder.device}",
                    Remedy(kind=RemedyKind.SAVE_MEMORY, device=str(encoder.device)),
                ) from error
            batch //= 2
            continue
        done += len(part)
        if on_points is not None:
            on_points(len(part))
    best = distinct([one.box for one in kept], [one.quality for one in kept], MOST_OVERLAP)[: choice.most]
    found = [_unpacked(kept[number], box) for number in best]
    if choice.apart:
        chosen = apart([one.mask for one in found], [one.quality * one.stability for one in found])
        found = [found[number] for number in chosen]
    return found


def _passing(
    encoder: SliceEncoder, encoded: EncodedSlices, points: npt.NDArray[np.float64], choice: EverythingChoice
) -> Iterator[_Kept]:
    """Yield the masks of a batch of points that are good, stable and large enough."""
    backbone, box = encoder.model.backbone, encoded.box
    places = torch.from_numpy(points_to_square(points, box)).to(encoder.device).unsqueeze(1)
    inside = torch.ones(len(points), 1, dtype=torch.int32, device=encoder.device)
    tokens = backbone.prompt_points(places, inside).unsqueeze(0)
    logits, quality = backbone.decode_masks(encoded.features, Prompt(sparse=tokens), READINGS)
    flat, scores = logits[0].flatten(0, 1), quality[0].flatten().float()
    assert choice.quality is not None and choice.stability is not None  # `of_model`
    good = torch.nonzero(scores > choice.quality).flatten()
    if not len(good):
        return
    shown = logits_to_slice(flat[good], box)
    high, low = ((shown > offset).sum(dim=(-2, -1)) for offset in (STABILITY_OFFSET, -STABILITY_OFFSET))
    stability = (high / low).cpu().numpy()  # of nothing at all it is NaN, which is not enough
    masks, chosen, values = (shown > 0).cpu().numpy(), good.cpu().numpy(), scores[good].cpu().numpy()
    for number, mask in enumerate(masks):
        if stability[number] >= choice.stability and np.count_nonzero(mask) >= max(1, choice.least_pixels):
            yield _Kept(
                bits=np.packbits(mask),
                box=box_of(mask),
                quality=float(values[number]),
                stability=float(stability[number]),
                point=points[int(chosen[number]) // len(READINGS)],
            )


def _unpacked(kept: _Kept, box: Letterbox) -> FoundMask:
    mask = np.unpackbits(kept.bits, count=box.shape[0] * box.shape[1]).reshape(box.shape).astype(bool)
    return FoundMask(
        mask=mask,
        quality=kept.quality,
        stability=kept.stability,
        row=float(kept.point[1]),
        column=float(kept.point[0]),
    )
