"""Sizes and choices of a generator that makes its prompt of the image alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

ONE_OBJECT = (PromptClass("object"),)
TRUNK_STRIDE = 32


@dataclass(frozen=True, kw_only=True)
class ImagePromptConfig:
    """Sizes and choices of AutoSAM's prompt generator.

    Attributes:
        image_size: Side of the backbone's square input in pixels.
        grid: Side ``g`` of the backbone's feature grid.
        channels: Channels ``C`` of the backbone.
        classes: The structures that it finds, each with ``C`` channels of the output.
        read_size: Side in pixels of the square that the generator reads; the image is scaled to it.
        width: Channels of the finest level on the way up; the level below has twice as many.
        reach: Largest value of the dense prompt. The paper's tanh reaches 1, which is enough for official SAM; the mask
            prompts of the compact decoder reach 2.8.
        min_max: Whether logits are scaled to 0..1 between their extremes in each image, as in the paper's code, so that
            every image shows something; otherwise an object is where logits are above 0.
        presence: Whether a presence logit is predicted; not with ``min_max``, which leaves no image empty.
        surrogate: Whether the surrogate decoder is part of the model, for previews without SAM.
    """

    image_size: int = 256
    grid: int = 32
    channels: int = 128
    classes: tuple[PromptClass, ...] = ONE_OBJECT
    read_size: int = 256
    width: int = 64
    reach: float = 1.0
    min_max: bool = False
    presence: bool = True
    surrogate: bool = True

    def __post_init__(self) -> None:
        """Reject values that contradict each other.

        Raises:
            UsageError: If there is no class, a name repeats, or a size or choice is not allowed.
        """
        names = [one.name.casefold() for one in self.classes]
        if not names or len(set(names)) < len(names):
            raise UsageError(
                f"the classes are {', '.join(names) or 'none'}; give at least one, and each a name of its own."
            )
        if self.read_size < TRUNK_STRIDE or self.read_size % TRUNK_STRIDE:
            raise UsageError(f"read_size is {self.read_size}; it must be a multiple of {TRUNK_STRIDE} pixels")
        if self.width < 8 or self.width % 8 or self.channels % 16:
            raise UsageError(f"width is {self.width}, channels {self.channels}; multiples of 8 and 16 are needed")
        if self.reach <= 0:
            raise UsageError(f"reach is {self.reach:g}; it must be above 0")
        if self.min_max and self.presence:
            raise UsageError(
                "presence says that an image may show nothing, which min_max excludes; ask for one of them."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as in a checkpoint."""
        return dataclasses.asdict(self)


COMPACT = ImagePromptConfig(width=32, reach=3.0)
"""For `sam-compact`, and SAM 2 around its encoder."""

OFFICIAL = ImagePromptConfig(image_size=1024, grid=64, channels=256, read_size=352, width=96)
"""For official SAM and SAM 2; the generator reads what the paper gives it of polyps."""


def legacy(config: ImagePromptConfig) -> ImagePromptConfig:
    """Return a configuration with the paper's code's choices: min-max of each image, which is never empty."""
    return dataclasses.replace(config, min_max=True, presence=False)
