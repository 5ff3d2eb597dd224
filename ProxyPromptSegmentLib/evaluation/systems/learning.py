"""What the systems that are trained on the few cases share: steps on changed slices until the processor time is used.

Each has its own loss and rate, as published; order, changes of the slices and the clock are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import CancelledError, InputError
from ProxyPromptSegmentLib.evaluation.clock import training_clock
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen, check_sam
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import may_mirror
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
KEPT_TOGETHER = 4  # embedded slices of a step: a step is cheap, and more of them learn more than larger ones
MOST_VARIANTS, EMBEDDING_SHARE = 6, 0.25  # changed versions of a slice that are embedded, and their share of the time
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


@runtime_checkable
class Keeping(Protocol):
    """A learner whose encoders may be frozen: what they make of a slice is then computed once and kept."""

    keeps: bool
    """Whether nothing that `embed` computes is trained."""

    def embed(self, images: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what does not depend on what is trained, each ``(B, ...)``; see `Learner.draw`."""

    def decode(self, embedded: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the logits of all objects, ``(B, N, 4g, 4g)``."""


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
    trained = [one for one in learner.parameters() if one.requires_grad]
    device, chance = trained[0].device, torch.Generator().manual_seed(lesson.seed)
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=weight_decay)
    steps, seconds = 0, 0.0
    learner.train()
    with computing_with(lesson.threads):
        changed = _Changed(learner, sheets, chance, device, may_mirror(lesson.few))
        source: _Changed | _Kept = changed
        if isinstance(learner, Keeping) and learner.keeps:
            began = training_clock(device)
            source = _Kept(learner, changed, EMBEDDING_SHARE * lesson.seconds, cancel)
            seconds = training_clock(device) - began
        while seconds < lesson.seconds or not steps:
            _check(cancel)
            began = training_clock(device)
            used = seconds / max(1e-9, lesson.seconds)
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, max(used, 1e-3) / WARM_UP) * (1 - min(used, 1.0)) ** POWER
            logits, masks = source.drawn()
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


def trained(
    frozen: Frozen,
    lesson: Lesson,
    make: Callable[[SamBackbone], Learner],
    rates: tuple[float, float],
    weight_decay: float,
    progress: Callable[[float], None] | None = None,
    cancel: CancelToken | None = None,
) -> Learned:
    """Return a network on a frozen SAM, trained for the lesson's seconds.

    Args:
        frozen: The SAM.
        lesson: Cases, time and seed.
        make: Makes the network, whose random weights follow from the lesson's seed.
        rates: Peak rate on official weights, and on a compact model.
        weight_decay: See `learn`.
        progress: See `learn`.
        cancel: See `learn`.

    Raises:
        UsageError: If the model is no SAM.
        InputError: If there is no case.
        CancelledError: If it was cancelled.
    """
    backbone = check_sam(frozen.segmenter)
    torch.manual_seed(lesson.seed)
    network = make(backbone)
    return Learned(network, learn(network, lesson, rates[frozen.compact], weight_decay, progress, cancel))


def _check(cancel: CancelToken | None) -> None:
    if cancel is not None and cancel.cancelled:
        raise CancelledError("the training of a system to compare with was cancelled")


@dataclass(frozen=True, eq=False)
class _Changed:
    """Slices that are changed in each step."""

    learner: Learner
    sheets: Sequence[_Sheet]
    chance: torch.Generator
    device: torch.device
    mirror: bool

    def drawn(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of some slices, and their masks at the size of the input."""
        together = FEW_TOGETHER if self.learner.backbone.image_size > LARGE else TOGETHER
        count = min(together, 2 * len(self.sheets))
        images, valid, masks = self.changed(torch.randint(len(self.sheets), (count,), generator=self.chance).tolist())
        return self.learner.draw(images, valid, masks), masks

    def changed(self, numbers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return images, valid positions and masks of some slices, changed."""
        chosen = [self.sheets[n] for n in numbers]
        images, masks = augment(
            torch.stack([one.image for one in chosen]).float(),
            torch.stack([one.masks for one in chosen]).float(),
            self.chance,
            self.mirror,
        )
        valid = torch.stack([one.valid for one in chosen])
        return images.clamp(0, 1).to(self.device), valid.to(self.device), masks.to(self.device)


class _Kept:
    """Slices of which a few changed versions were embedded."""

    def __init__(self, learner: Keeping, source: _Changed, seconds: float, cancel: CancelToken | None) -> None:
        """Embed each slice as often as the seconds allow, at least once."""
        self._learner, self._chance = learner, source.chance
        self._kept: list[tuple[list[torch.Tensor], torch.Tensor]] = []
        began = training_clock(source.device)
        for done in range(1, MOST_VARIANTS + 1):
            for number in range(len(source.sheets)):
                _check(cancel)
                images, valid, masks = source.changed([number])
                with torch.no_grad():
                    embedded = [_half(one) for one in learner.embed(images, valid)]
                self._kept.append((embedded, masks.to(torch.uint8)))
            if (training_clock(source.device) - began) * (done + 1) / done > seconds:
                break

    def drawn(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of some slices, and their masks at the size of the input."""
        numbers = torch.randint(len(self._kept), (min(KEPT_TOGETHER, len(self._kept)),), generator=self._chance)
        chosen = [self._kept[n] for n in numbers.tolist()]
        parts = zip(*(embedded for embedded, _ in chosen), strict=True)
        embedded = [torch.cat(part) for part in parts]
        whole = [one.float() if one.is_floating_point() else one for one in embedded]
        return self._learner.decode(whole), torch.cat([masks for _, masks in chosen]).float()


def _half(values: torch.Tensor) -> torch.Tensor:
    return values.half() if values.is_floating_point() else values


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
