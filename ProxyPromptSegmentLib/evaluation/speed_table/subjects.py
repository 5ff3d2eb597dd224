"""What is timed: a drawn volume, drawn supports of several objects, and models."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.support.pairs import MOST_READ, SupportSet, merge_supports, support_from_volume
from ProxyPromptSegmentLib.weights.registry import resolve

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.volumes import Volume
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

SIDE = 256  # pixels of a slice
SLICES = 24
FROM_ONE = 8  # most support slices of one drawn case
PLAIN = "norms not folded, channels first, every key of the map read, the package's decoder, single slices on a CPU"


@dataclass(frozen=True, eq=False)
class Target:
    """A volume to be segmented.

    Attributes:
        images: Its slices, float32 ``(S, H, W)``.
        window: Intensities that are mapped to 0 and 1.
    """

    images: np.ndarray
    window: tuple[float, float]

    def first(self, count: int) -> Target:
        """Return the middle slices of the volume, which show the objects."""
        start = max(0, (len(self.images) - count) // 2)
        return Target(np.ascontiguousarray(self.images[start : start + count]), self.window)


@lru_cache(maxsize=8)
def drawn(seed: int, slices: int = SLICES) -> tuple[Volume, Segmentation]:
    """Return a drawn pelvis with a prostate."""
    return pelvis_phantom(seed, (slices, SIDE, SIDE))


def target(slices: int = SLICES) -> Target:
    """Return the volume to be segmented."""
    array = drawn(2, max(slices, 8))[0].array
    return Target(array, intensity_window(array)).first(slices)


def supports(count: int, objects: int, first: int = 11) -> SupportSet:
    """Return annotated slices of a gland that is divided into parts.

    Args:
        count: ``K``.
        objects: ``N``, at most 4: quarters, or halves, of the gland.
        first: Seed of the first drawn case; `FROM_ONE` slices at most come from each.
    """
    parts, seed = [], first
    while count > 0:
        case, annotation = drawn(seed)
        divided = _divided(annotation, objects)
        part = support_from_volume(case, divided, None, None, "k", min(count, FROM_ONE))
        parts.append(part)
        count, seed = count - len(part), seed + 1
    return merge_supports(parts)


def _divided(annotation: Segmentation, objects: int) -> Segmentation:
    """Divide a gland into a half for each of two objects, or a quarter for each of up to four."""
    mask = annotation.segments[0].mask
    middle = [int(np.mean(where)) for where in np.nonzero(mask)[1:]]
    right = (np.arange(mask.shape[2]) >= middle[1]).astype(int)
    below = (np.arange(mask.shape[1]) >= middle[0]).astype(int)
    places = {1: 0 * below[:, None] + 0 * right, 2: 0 * below[:, None] + right}.get(objects, 2 * below[:, None] + right)
    segments = [
        Segment(f"part {number + 1}", mask * (places == number).astype(mask.dtype)) for number in range(objects)
    ]
    return Segmentation(segments, annotation.geometry)


def as_loaded(model: str, device: str) -> Segmenter:
    """Return a model as a run uses it, reading the supports most like a slice."""
    from ProxyPromptSegmentLib.inference.loading import load

    return load(model, device).segmenter.reading(MOST_READ)


def with_random_weights(backbone: str, device: str) -> Segmenter:
    """Return a model of an official size; its weights are random, which computes the same."""
    import torch

    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.networks.model import build_model

    torch.manual_seed(1)
    return Segmenter(build_model(backbone).eval(), device, most_read=MOST_READ)


def plain(model: str, device: str) -> Segmenter:
    """Return a model without what was done for its speed, see `PLAIN`."""
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

    network, _ = checkpoints.load_model(*resolve(model))
    config = network.generator.config
    if getattr(config, "merge_keys", False):
        network.generator.config = dataclasses.replace(config, merge_keys=False)
    if hasattr(network.backbone, "few_tokens"):
        network.backbone.few_tokens = False
    return Segmenter(network, device, 1 if device == "cpu" else None)
