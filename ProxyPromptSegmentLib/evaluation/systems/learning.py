"""What the systems that are trained on the few cases share: steps on changed slices until the processor time is used.

Each has its own loss and rate, as published; order, changes of the slices and the clock are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import CancelledError, InputError
from ProxyPromptSegmentLib.evaluation.clock import training_clock
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.systems.system import Lesson
from ProxyPromptSegmentLib.evaluation.unet_baseline import augment
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.letterbox import (
    Letterbox,
    images_to_tensor,
    logits_to_slice,
    masks_to_tensor,
    valid_tokens,
)
from ProxyPromptSegmentLib.networks.threads import computing_with
from ProxyPromptSegmentLib.progress import CancelToken

LARGE, FEW_TOGETHER, TOGETHER = 256, 2, 8  # input side above which few slices are learned from at once
POWER = 0.9  # of the decay of the rate, as in SAMed
WARM_UP = 0.05  # share of the time in which the rate rises
CLIPPED = 1.0


class Learner(Protocol):
    """A network that is trained on the few cases."""

    @property
    def backbone(self) -> SamBackbone:
        """The backbone that it holds."""

    def draw(self, images: torch.Tensor, valid: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Return the logits of all objects, ``(B, N, 4g, 4g)``.

        Args:
            images: ``(B, 3, size, size)`` in 0..1.
            valid: Feature positions that are not padding, bool ``(B, g, g)``.
            masks: The truth, ``(B, N, size, size)``; only systems that are prompted with it look.
        """

    def loss(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits and truth, both ``(B, N, 4g, 4g)``."""


@dataclass(frozen=True, eq=False)
class _Sheet:
    image: torch.Tensor  # (3, size, size), half precision
    masks: torch.Tensor  # (N, size, size), uint8
    valid: torch.Tensor  # (g, g)


def learn(
    learner: Learner,
    lesson: Lesson,
    rate: float,
    weight_decay: float,
    progress: Callable[[float], None] | None = None,
    cancel: CancelToken | None = None,
) -> int:
    """Train whatever requires a gradient until the lesson's seconds are used up; at least one step is made.

    Args:
        learner: A ``torch.nn.Module`` as well.
        lesson: Cases, time and seed.
        rate: Peak rate of AdamW, which rises linearly and falls by a power of the time that is left.
        weight_decay: Of AdamW.
        progress: Called with the share of the time that is used.
        cancel: Checked before each step.

    Returns:
        The number of steps.

    Raises:
        InputError: If there is no case.
        CancelledError: If it was cancelled.
    """
    assert isinstance(learner, torch.nn.Module)
    sheets = [sheet for case in lesson.few for sheet in _sheets(learner.backbone, case)]
    if not sheets:
        raise InputError("there is no annotated case to learn from; give at least one.")
    side = learner.backbone.image_size
    batch = min(FEW_TOGETHER if side > LARGE else TOGETHER, 2 * len(sheets))
    trained = [one for one in learner.parameters() if one.requires_grad]
    device, chance = trained[0].device, torch.Generator().manual_seed(lesson.seed)
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=weight_decay)
    steps, seconds = 0, 0.0
    learner.train()
    with computing_with(lesson.threads):
        while seconds < lesson.seconds or not steps:
            if cancel is not None and cancel.cancelled:
                raise CancelledError("the training of a system to compare with was cancelled")
            began = training_clock(device)
            used = seconds / max(1e-9, lesson.seconds)
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, max(used, 1e-3) / WARM_UP) * (1 - min(used, 1.0)) ** POWER
            chosen = [sheets[int(n)] for n in torch.randint(len(sheets), (batch,), generator=chance)]
            images, masks = augment(
                torch.stack([one.image for one in chosen]).float(),
                torch.stack([one.masks for one in chosen]).float(),
                chance,
            )
            images, masks = images.clamp(0, 1).to(device), masks.to(device)
            valid = torch.stack([one.valid for one in chosen]).to(device)
            logits = learner.draw(images, valid, masks)
            truth = torch.nn.functional.adaptive_avg_pool2d(masks, logits.shape[-2:])
            loss = learner.loss(logits, truth)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, CLIPPED)
            optimizer.step()
            steps += 1
            seconds += training_clock(device) - began
            if progress is not None:
                progress(min(1.0, seconds / max(1e-9, lesson.seconds)))
    learner.eval()
    return steps


def _sheets(backbone: SamBackbone, case: Case) -> list[_Sheet]:
    box, window = box_of(backbone, case), intensity_window(case.images)
    return [
        _Sheet(
            images_to_tensor(case.images[n : n + 1], window, box)[0].half(),
            masks_to_tensor(case.masks[n : n + 1], box)[0].to(torch.uint8),
            valid_tokens(box, backbone.grid),
        )
        for n in range(len(case.images))
    ]


def box_of(backbone: SamBackbone, case: Case) -> Letterbox:
    """Return the position of a case's slices in the backbone's square."""
    shape = (int(case.images.shape[1]), int(case.images.shape[2]))
    return Letterbox(backbone.image_size, shape, spacing_of(case), backbone.keeps_aspect)


@dataclass(frozen=True, eq=False)
class Learned:
    """A trained network as a segmenter.

    Attributes:
        learner: The network, in evaluation mode.
        steps: Steps of its training.
    """

    learner: Learner
    steps: int

    @torch.no_grad()
    def segment(self, case: Case) -> np.ndarray:
        """Segment every slice; uint8 ``(S, N, H, W)``."""
        backbone, found = self.learner.backbone, []
        box, window, device = box_of(backbone, case), intensity_window(case.images), backbone.mean.device
        valid = valid_tokens(box, backbone.grid).unsqueeze(0).to(device)
        for index in range(len(case.images)):
            images = images_to_tensor(case.images[index : index + 1], window, box).to(device)
            masks = masks_to_tensor(case.masks[index : index + 1], box).to(device)
            logits = self.learner.draw(images, valid, masks)
            found.append((logits_to_slice(logits[0], box) > 0).to(torch.uint8).cpu().numpy())
        return np.stack(found)


def copied(backbone: object) -> SamBackbone:
    """Return a copy of a frozen SAM without gradients, of which parts may then be trained."""
    import copy

    made = copy.deepcopy(backbone)
    assert isinstance(made, SamBackbone)
    return made.requires_grad_(False)


def count_trained(module: torch.nn.Module) -> int:
    """Return how many numbers of a network are trained."""
    return sum(one.numel() for one in module.parameters() if one.requires_grad)
