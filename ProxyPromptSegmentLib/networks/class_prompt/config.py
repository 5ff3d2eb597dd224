"""Every choice of a class prompt generator is one key here; the presets are named sets of choices."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.typed_json import JsonError, read_object
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

GROUPS = 8  # of the group norms
LEVELS = 4  # each of two levels halves the grid


@dataclass(frozen=True, kw_only=True)
class ClassPromptConfig:
    """Sizes and choices of a class prompt generator.

    Attributes:
        classes: The vocabulary.
        image_size: Side of the square input in pixels.
        grid: Side ``g`` of the backbone's feature grid.
        channels: Channels ``C`` of the backbone.
        legacy: Whether the encoder is that of the authors' code: the class is a number, the resolution is constant,
            and there is no presence.
        widths: Channels at the grid, at half and at a quarter of it; not of ``legacy``, whose widths are fixed.
        embedding: Channels of the embeddings of class and time step.
        tokens: Sparse tokens of each class.
        steps: Time steps of the forward diffusion.
        noise_variance: Variance of its last step; that of the authors' code after 100 steps.
        noise: What takes the place of the noise in use: its ``mean``, or one that is ``seeded``. Both give the same
            mask for the same image; in training it is random.
        branches: Decoder branches that reach the mask decoder (the paper's ablation).
        presence: Whether a presence logit is predicted.
        readout: Whether each class has a linear reading of the embedding beside the encoder, which is fitted at once
            before the training and gives a mask prompt to begin with; not of ``legacy``.
        diffusion: Whether there is the diffusion-based encoder at all; without it the reading alone makes the prompt.
        corrects: Whether the encoder corrects the box, mask prompt and presence of the reading, as which it begins;
            else it makes prompts of its own, of which the reading is an input.
    """

    classes: tuple[PromptClass, ...] = ()
    image_size: int = 1024
    grid: int = 64
    channels: int = 256
    legacy: bool = False
    widths: tuple[int, int, int] = (96, 128, 192)
    embedding: int = 64
    tokens: int = 2
    steps: int = 100
    noise_variance: float = 0.635
    noise: Literal["mean", "seeded"] = "mean"
    branches: Literal["both", "sparse", "dense"] = "both"
    presence: bool = True
    readout: bool = True
    diffusion: bool = True
    corrects: bool = False

    def __post_init__(self) -> None:
        """Reject sizes that do not fit each other.

        Raises:
            UsageError: If a size is not allowed.
        """
        if self.legacy:
            if self.presence or self.readout or self.tokens != 2 or self.noise != "seeded":
                raise UsageError(
                    "legacy has 2 tokens, seeded noise, no presence and no readout; set tokens, noise, presence and "
                    "readout so"
                )
            return
        if self.corrects and not (self.diffusion and self.readout and self.presence and self.tokens == 2):
            raise UsageError(
                "corrects needs what it corrects, the readout, its presence and the 2 corners of a box, and the "
                "diffusion-based encoder that does so; set diffusion, readout, presence and tokens so"
            )
        if not self.diffusion and not (self.readout and self.presence and self.tokens == 2):
            raise UsageError(
                "without diffusion the readout, its presence and the 2 corners of a box are all there is; set readout, "
                "presence and tokens so, or diffusion"
            )
        if self.grid % LEVELS:
            raise UsageError(f"the grid is {self.grid}; it must be a multiple of {LEVELS}")
        if wrong := [width for width in self.widths if width < GROUPS or width % GROUPS]:
            raise UsageError(f"widths has {wrong[0]}; each must be a multiple of {GROUPS}")
        if self.embedding < 2 or self.embedding % 2:
            raise UsageError(f"embedding is {self.embedding}; it must be even")
        if self.tokens < 1 or self.steps < 1:
            raise UsageError(f"tokens is {self.tokens} and steps is {self.steps}; each must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as in a checkpoint."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClassPromptConfig:
        """Read a checkpoint's configuration.

        Raises:
            CheckpointError: If a key is unknown or a value is of another type.
        """
        try:
            return read_object(cls, values)
        except JsonError as error:
            raise CheckpointError(f"the class prompt generator is not understood: {error}") from error


FULL = ClassPromptConfig()
COMPACT = ClassPromptConfig(image_size=256, grid=32, channels=128, widths=(32, 48, 64))
LEGACY = ClassPromptConfig(legacy=True, presence=False, readout=False, noise="seeded")
PRESETS = {"class": FULL, "class-compact": COMPACT, "class-legacy": LEGACY}
