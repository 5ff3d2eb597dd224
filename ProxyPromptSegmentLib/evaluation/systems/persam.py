"""PerSAM: SAM is personalised by one annotated image, by attention and prompts alone.

The similarity of a target to the mean feature of the object gives a positive and a negative point, guides the decoder's
attention, and the mean feature is added to its tokens; two refinements follow. With several supports, the mean feature
is that of all of them. An object that a target does not show is drawn none the less, as in the method.

References:
    Zhang et al., Personalize Segment Anything Model with One Shot, 2023, section 3, and its public ``persam.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen, check_sam
from ProxyPromptSegmentLib.evaluation.systems.guided_decoder import guided_logits
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import support_of
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.by_hand.decode import COMPACT_LIMIT, LIMIT, tokens_of
from ProxyPromptSegmentLib.inference.by_hand.prompts import HandPrompt, Point
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.letterbox import logits_to_slice, masks_to_tensor
from ProxyPromptSegmentLib.networks.model import COMPACT_NAMES
from ProxyPromptSegmentLib.networks.values import Prompt
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.pairs import SupportPair

NAME = "PerSAM"
SOURCE = "Zhang et al. 2023, Personalize Segment Anything Model with One Shot"
READINGS = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class PerSam:
    """PerSAM without any training.

    Attributes:
        frozen: A SAM.
    """

    frozen: Frozen
    name: str = NAME
    kind: Kind = Kind.FREE

    @property
    def source(self) -> str:
        """Where the method is published."""
        return SOURCE + self.frozen.stands_in("official SAM weights")

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Compute the mean feature of each object.

        Raises:
            UsageError: If the model is no SAM.
        """
        segmenter = self.frozen.segmenter
        check_sam(segmenter)
        pairs = support_of(lesson.few).pairs
        with torch.inference_mode():
            return Personal(segmenter, mean_features(features_of(segmenter, pairs, len(lesson.few[0].objects))))


def features_of(segmenter: Segmenter, pairs: Sequence[SupportPair], objects: int) -> list[torch.Tensor]:
    """Return the features under each object's masks in all supports, ``(positions, C)`` for each object.

    Positions count whose mask, brought to the feature grid by bilinear interpolation, is above 0.
    """
    grid = segmenter.model.backbone.grid
    found: list[list[torch.Tensor]] = [[] for _ in range(objects)]
    for pair in pairs:
        encoded = segmenter.encode(pair.image[None], pair.window, pair.spacing_mm)
        masks = masks_to_tensor(pair.masks[None], encoded.box)
        small = functional.interpolate(masks, size=(grid, grid), mode="bilinear")[0]
        top = encoded.features.top[0].movedim(0, -1)
        for number, mask in enumerate(small):
            inside = mask > 0
            if masks[0, number].any() and not inside.any():  # the interpolation steps over a small object
                inside = functional.adaptive_max_pool2d(masks[:, number], grid)[0] > 0
            found[number].append(top[inside.to(top.device)])
    return [torch.cat(parts) for parts in found]


def mean_features(features: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean feature of each object, ``(N, C)``."""
    return torch.stack([one.mean(0) for one in features])


def similarity(encoded: EncodedSlices, feature: torch.Tensor) -> torch.Tensor:
    """Return the cosine of one embedded slice with a feature ``(C,)``, on the slice's own pixels ``(H, W)``."""
    top = functional.normalize(encoded.features.top[0], dim=0)
    cosine = torch.einsum("c,chw->hw", functional.normalize(feature, dim=0), top)
    finer = functional.interpolate(cosine[None, None], scale_factor=4, mode="bilinear")
    return logits_to_slice(finer[0, 0], encoded.box)


def point_at(values: torch.Tensor, inside: bool) -> Point:
    """Return the pixel of the largest similarity as a positive point, or that of the smallest as a negative one."""
    index = int(values.argmax() if inside else values.argmin())
    return Point(index // values.shape[-1], index % values.shape[-1], inside)


@dataclass(frozen=True, eq=False)
class Personal:
    """SAM with the features of some objects.

    Attributes:
        segmenter: SAM.
        features: ``(N, C)``.
    """

    segmenter: Segmenter
    features: torch.Tensor

    def segment(self, case: Case) -> np.ndarray:
        """Segment every slice; uint8 ``(S, N, H, W)``."""
        masks, window = np.zeros_like(case.masks), intensity_window(case.images)
        for index in range(len(case.images)):
            with torch.inference_mode():
                encoded = self.segmenter.encode(case.images[index : index + 1], window, spacing_of(case))
                for number in range(len(self.features)):
                    masks[index, number] = self.object(encoded, number)
        return masks

    def object(self, encoded: EncodedSlices, number: int) -> np.ndarray:
        """Draw one object on one embedded slice; uint8 ``(H, W)``."""
        backbone, grid = check_sam(self.segmenter), self.segmenter.model.backbone.grid
        feature = self.features[number]
        seen = similarity(encoded, feature)
        said = HandPrompt(points=(point_at(seen, True), point_at(seen, False)))
        spread = (seen - seen.mean()) / seen.std().clamp(min=1e-12)
        guide = functional.interpolate(spread[None, None], size=(grid, grid), mode="bilinear").sigmoid()
        tokens = tokens_of(backbone, said, encoded.box, encoded.features.top)
        first = guided_logits(backbone, encoded.features, tokens[0], guide.flatten(1), feature)
        return refined(backbone, encoded, said, first)


def refined(backbone: SamBackbone, encoded: EncodedSlices, said: HandPrompt, first: torch.Tensor) -> np.ndarray:
    """Draw again twice: with the mask so far, then with the box around it as well.

    Args:
        backbone: SAM.
        encoded: The slice.
        said: Its points, and from the first drawing on a box where there is one already.
        first: Logits of the first drawing, ``(4g, 4g)``.
    """
    best = drawn_again(backbone, encoded, said, first)
    around = HandPrompt(mask=_mask(best, encoded)).extent
    if around is None:
        return _mask(best, encoded)
    return _mask(drawn_again(backbone, encoded, HandPrompt(said.points, around), best), encoded)


def drawn_again(backbone: SamBackbone, encoded: EncodedSlices, said: HandPrompt, before: torch.Tensor) -> torch.Tensor:
    """Return the best of the decoder's three readings by its own estimate, with a mask to start from; ``(4g, 4g)``."""
    limit = COMPACT_LIMIT if backbone.name in COMPACT_NAMES else LIMIT
    tokens = tokens_of(backbone, said, encoded.box, encoded.features.top)
    prompt = Prompt(sparse=tokens, mask=before.clamp(-limit, limit)[None, None])
    logits, quality = backbone.decode_masks(encoded.features, prompt, READINGS)
    return logits[0, 0, int(quality[0, 0].argmax())]


def _mask(logits: torch.Tensor, encoded: EncodedSlices) -> np.ndarray:
    found: np.ndarray = (logits_to_slice(logits, encoded.box) > 0).to(torch.uint8).cpu().numpy()
    return found
