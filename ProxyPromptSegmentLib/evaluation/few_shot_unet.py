"""The specialist beside a few-shot adaptation: MONAI's 2D U-Net, trained from random weights on the same slices alone.

It has as many processor seconds as the adaptation and no validation set: the last averaged weights are the result. All
objects are drawn at once, each with its own probability, since objects may lie inside of one another. Images of more
than 256 pixels are learned in patches at full resolution, and segmented whole.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ProxyPromptSegmentLib.errors import CancelledError, InputError
from ProxyPromptSegmentLib.evaluation.clock import training_clock
from ProxyPromptSegmentLib.evaluation.unet_baseline import EMA_DECAY, WEIGHT_DECAY, augment, build_unet, learning_rate
from ProxyPromptSegmentLib.progress import CancelToken

MULTIPLE = 16  # sides are halved four times
LARGEST = 256  # side of what is learned from at once, in pixels
TOGETHER = 16  # slices that are segmented at once


@dataclass(frozen=True, eq=False, kw_only=True)
class AnnotatedSlice:
    """A slice to learn from.

    Attributes:
        image: Intensities as acquired; ``(H, W)`` or ``(H, W, 3)``.
        masks: 0 or 1, uint8 ``(N, H, W)``.
        window: Intensities ``(low, high)`` that are mapped to 0..1.
    """

    image: npt.NDArray[np.float32]
    masks: npt.NDArray[np.uint8]
    window: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class FewShotRecipe:
    """The settings of a training.

    Attributes:
        seconds: Processor seconds, which the schedule of the learning rate spans.
        mirror: Whether slices are mirrored left to right.
        batch: Slices or patches of a step.
        seed: Seed of weights, order and augmentation.
    """

    seconds: float
    mirror: bool = True
    batch: int = 8
    seed: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class FewShotUnet:
    """A trained network.

    Attributes:
        network: The network with averaged weights, in evaluation mode.
        steps: Steps of its training.
        seconds: Processor seconds of its training.
    """

    network: nn.Module
    steps: int
    seconds: float

    @torch.no_grad()
    def segment(self, images: np.ndarray, window: tuple[float, float]) -> npt.NDArray[np.uint8]:
        """Segment every slice of a stack.

        Args:
            images: ``(S, H, W)`` or ``(S, H, W, 3)``.
            window: Intensities that are mapped to 0..1.

        Returns:
            Masks, uint8 ``(S, N, H, W)``.
        """
        height, width = images.shape[1:3]
        found = []
        for part in np.array_split(images, max(1, -(-len(images) // TOGETHER))):
            stack = torch.stack([_channels(image, window) for image in part])
            logits = self.network(_filled(stack, _rounded(height), _rounded(width)))
            found.append((logits[..., :height, :width] > 0).to(torch.uint8))
        masks: npt.NDArray[np.uint8] = torch.cat(found).numpy()
        return masks


def train_few_shot(
    slices: Sequence[AnnotatedSlice],
    recipe: FewShotRecipe,
    progress: Callable[[float], None] | None = None,
    cancel: CancelToken | None = None,
) -> FewShotUnet:
    """Train on a few slices until the processor seconds are used up; at least one step is made.

    Args:
        slices: The slices, all with the same objects and either all grey or all in colour.
        recipe: The settings.
        progress: Called with the share of the time that is used, 0 to 1.
        cancel: Checked before each step.

    Raises:
        InputError: If there is no slice, or they differ in their objects or channels.
        CancelledError: If it was cancelled.
    """
    if not slices:
        raise InputError("there is no slice to learn from; give at least one.")
    kinds = {(one.image.ndim, len(one.masks)) for one in slices}
    if len(kinds) > 1:
        raise InputError(
            "the slices differ in the number of their objects, or grey ones are among coloured ones; give slices of "
            "one kind."
        )
    images = [_channels(one.image, one.window) for one in slices]
    masks = [torch.from_numpy(one.masks.astype(np.float32)) for one in slices]
    height, width = (min(LARGEST, max(_rounded(one.shape[side]) for one in images)) for side in (1, 2))
    torch.manual_seed(recipe.seed)
    chance = torch.Generator().manual_seed(recipe.seed)
    network = build_unet(images[0].shape[0], len(masks[0]))
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    steps, seconds, clock = 0, 0.0, torch.device("cpu")
    while seconds < recipe.seconds or not steps:
        if cancel is not None and cancel.cancelled:
            raise CancelledError("the training of the U-Net was cancelled")
        began = training_clock(clock)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(steps, seconds / max(1e-9, recipe.seconds))
        chosen = torch.cat(
            [torch.randperm(len(images), generator=chance) for _ in range(-(-recipe.batch // len(images)))]
        )
        drawn = [_patch(images[n], masks[n], height, width, chance) for n in chosen[: recipe.batch].tolist()]
        changed = augment(
            torch.stack([one for one, _ in drawn]), torch.stack([one for _, one in drawn]), chance, recipe.mirror
        )
        network.train()
        loss = several_loss(network(changed[0]), changed[1])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        steps += 1
        _follow(average, network, min(EMA_DECAY, (1 + steps) / (10 + steps)))
        seconds += training_clock(clock) - began
        if progress is not None:
            progress(min(1.0, seconds / max(1e-9, recipe.seconds)))
    return FewShotUnet(network=average, steps=steps, seconds=seconds)


def several_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return soft Dice of each object over the whole batch, on average, plus cross-entropy; both ``(B, N, H, W)``."""
    probability = torch.sigmoid(logits)
    over = (0, 2, 3)
    overlap = 2.0 * (probability * masks).sum(over) + 1.0
    dice = 1.0 - overlap / (probability.sum(over) + masks.sum(over) + 1.0)
    return dice.mean() + functional.binary_cross_entropy_with_logits(logits, masks)


def _channels(image: np.ndarray, window: tuple[float, float]) -> Tensor:
    """Return a slice in 0..1, float32 ``(1 or 3, H, W)``."""
    low, high = window
    scaled = np.clip((image - low) / max(1e-6, high - low), 0.0, 1.0).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(scaled[None] if scaled.ndim == 2 else np.moveaxis(scaled, -1, 0)))


def _rounded(side: int) -> int:
    return -(-side // MULTIPLE) * MULTIPLE


def _filled(values: Tensor, height: int, width: int) -> Tensor:
    """Return values with zeros below and to the right, up to a size."""
    return functional.pad(values, (0, width - values.shape[-1], 0, height - values.shape[-2]))


def _patch(image: Tensor, masks: Tensor, height: int, width: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a random patch of a slice, or all of it with zeros around where it is smaller."""
    places = []
    for wanted, side in ((height, image.shape[1]), (width, image.shape[2])):
        start = int(torch.randint(max(0, side - wanted) + 1, (), generator=chance))
        places.append(slice(start, start + wanted))
    row, column = places
    return _filled(image[:, row, column], height, width), _filled(masks[:, row, column], height, width)


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    values = network.state_dict()  # with the running statistics of the batch norm
    for name, mean in average.state_dict().items():
        if mean.is_floating_point():
            mean.lerp_(values[name], 1.0 - decay)
        else:
            mean.copy_(values[name])
