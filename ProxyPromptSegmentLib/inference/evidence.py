"""What a network gives away about its own prediction, from which presence and confidence are estimated.

All of it comes with the prediction: nothing is computed twice, and a hundredth of the time is added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ProxyPromptSegmentLib.inference.calibration import EVIDENCE, Calibration
from ProxyPromptSegmentLib.networks.values import Decoded, ImageFeatures, Prompt, presence_of


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What is thought of the masks of ``B`` slices and ``N`` objects.

    Attributes:
        presence: Probability that the slice shows the object at all, ``(B, N)``; 1 if the network has no presence.
        quality: Confidence in the mask if it has pixels, 0..1, ``(B, N)``.
        evidence: See `evidence_of`.
    """

    presence: npt.NDArray[np.float32]
    quality: npt.NDArray[np.float32]
    evidence: npt.NDArray[np.float32]


def judge(
    decoded: Decoded,
    prompt: Prompt,
    features: ImageFeatures,
    distance: torch.Tensor | None,
    calibration: Calibration | None,
) -> Judgement:
    """Estimate presence and quality of a prediction; arguments as in `evidence_of`.

    Without a calibration, or with a network that lacks some of its evidence, presence is the network's own, and quality
    is its estimate of the IoU times presence.
    """
    evidence = evidence_of(decoded, prompt, features, distance)
    if calibration is not None and np.isfinite(evidence).all():
        presence, quality = calibration.presence_of(evidence), calibration.quality_of(evidence)
    else:
        logit, iou = (evidence[..., EVIDENCE.index(name)] for name in ("presence", "iou"))
        known = presence_of(decoded, prompt) is not None
        presence = torch.sigmoid(torch.from_numpy(logit)).numpy() if known else np.ones_like(iou)
        quality = iou * presence
    return Judgement(presence=presence, quality=quality, evidence=evidence)


def evidence_of(
    decoded: Decoded, prompt: Prompt, features: ImageFeatures, distance: torch.Tensor | None
) -> npt.NDArray[np.float32]:
    """Return the evidence on ``B`` slices and ``N`` objects.

    Args:
        decoded: The decoder's answer.
        prompt: The prompt that it was given.
        features: The embedded slices.
        distance: Distance of each slice to the most similar support, ``(B,)``, see `likeness.distances`; None if it
            was not computed.

    Returns:
        float32 ``(B, N, E)`` in the order of `calibration.EVIDENCE`; NaN for what this network does not have.
    """
    logits = decoded.logits.float()
    inside = functional.interpolate(features.valid.unsqueeze(1).float(), size=logits.shape[-2:], mode="nearest")
    probability = torch.sigmoid(logits) * inside
    nothing = torch.full_like(decoded.quality, float("nan"), dtype=torch.float32)
    presence = presence_of(decoded, prompt)
    agreement = nothing
    if prompt.prior is not None:
        agreement = prior_agreement(prompt.prior.float() * features.valid.unsqueeze(1), probability)
    columns = {
        "presence": nothing if presence is None else presence.float(),
        "iou": decoded.quality.float().clamp(0, 1),
        "overlap": expected_dice(probability),
        "agreement": agreement,
        "distance": nothing if distance is None else distance.float().unsqueeze(1).expand_as(nothing),
    }
    return torch.stack([columns[name] for name in EVIDENCE], dim=-1).cpu().numpy()


def expected_dice(probability: torch.Tensor) -> torch.Tensor:
    """Return the Dice that masks expect of themselves if each pixel is right with its own probability.

    ``2 sum(p m) / (sum(p) + sum(m))`` for the mask ``m`` of the pixels with ``p > 0.5``: 1 if every pixel is decided,
    lower the more pixels are undecided for the size of the mask.

    Args:
        probability: ``(B, N, h, w)``; 0 in the padding.

    Returns:
        ``(B, N)``; 0 for an empty mask.
    """
    mask = (probability > 0.5).float()
    both = 2 * (probability * mask).sum(dim=(-2, -1))
    return both / (probability.sum(dim=(-2, -1)) + mask.sum(dim=(-2, -1))).clamp(min=1e-6)


def prior_agreement(prior: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
    """Return the soft Dice ``2 sum(p q) / sum(p^2 + q^2)`` of the prior and the prediction averaged to its grid.

    Args:
        prior: ``(B, N, g, g)``; 0 in the padding.
        probability: ``(B, N, h, w)``; 0 in the padding.

    Returns:
        ``(B, N)``, 0..1; 0 where neither shows anything.
    """
    predicted = functional.adaptive_avg_pool2d(probability, prior.shape[-2:])
    both = 2 * (prior * predicted).sum(dim=(-2, -1))
    return both / (prior.square() + predicted.square()).sum(dim=(-2, -1)).clamp(min=1e-6)
