"""Control conditions: supports that must make the segmentation fail.

A model that scores as well with emptied masks or with images of another organ has memorised one organ and ignores
its prompt.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.evaluation.in_context import pair_of
from ProxyPromptSegmentLib.networks.letterbox import images_to_tensor, valid_tokens
from ProxyPromptSegmentLib.support.pairs import SupportSet

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.networks.values import PreparedSupport


def prepare_emptied(segmenter: Segmenter, support: SupportSet) -> PreparedSupport:
    """Prepare the same support images with empty masks.

    `SupportSet` rejects empty masks, as it should for users; here they are the control condition.
    """
    import torch

    from ProxyPromptSegmentLib.networks.values import PreparedSupport

    backbone, parts = segmenter.model.backbone, []
    with torch.inference_mode():
        for pair in support.pairs:
            box = segmenter.letterbox(pair.image.shape[:2], pair.spacing_mm)
            image = images_to_tensor(pair.image[None], pair.window, box).to(segmenter.device)
            nothing = torch.zeros(1, len(support.objects), *image.shape[-2:], device=segmenter.device)
            valid = valid_tokens(box, backbone.grid).unsqueeze(0).to(segmenter.device)
            parts.append(segmenter.model.prepare(image, nothing, support.objects, valid))
    return PreparedSupport.concatenate(parts)


def foreign_support(pool: list[Case], objects: tuple[str, ...], count: int, seed: int) -> SupportSet:
    """Draw supports of another organ, their masks labelled with the target's object names.

    Args:
        pool: Cases of another data set, single images.
        objects: The target's objects; the foreign masks are used in turn.
        count: ``K``.
        seed: Seed of the draw.
    """
    rng = np.random.default_rng(seed)
    pairs = []
    for number in rng.permutation(len(pool))[:count]:
        case = pool[int(number)]
        # The slice on which the smallest of its objects is largest shows them all, if any slice does.
        pair = pair_of(case, int(case.masks.sum(axis=(2, 3)).min(axis=1).argmax()))
        masks = np.stack([pair.masks[n % len(pair.masks)] for n in range(len(objects))])
        pairs.append(replace(pair, masks=masks))
    return SupportSet(tuple(pairs), objects)
