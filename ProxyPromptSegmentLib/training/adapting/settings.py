"""The settings of an adaptation; what is not said here does not change its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL

MOST_MINUTES = 24 * 60.0
MOST_RANK = 64
LEAST_TARGETS = 3
"""Of a step; one of them is asked for by foreign tokens."""
ALL, PROMPT, ENCODER = "all", "prompt", "encoder"
"""What is trained: the whole prompt generator and the mask decoder; only what comes after the Selective Map; or, beside
the first two, the image encoder: as a whole on a compact model, by adapters on official weights."""


@dataclass(frozen=True, kw_only=True)
class AdaptSettings:
    """The settings of an adaptation.

    Attributes:
        model: Name or path of the model to start from, or name of official weights, on which a new prompt generator
            begins.
        base: Path of the file of official weights, if the registry has it elsewhere; not a part of the result.
        minutes: Time for everything, folds included; decides the number of steps and of variants of each slice.
        steps: Steps of each training; by default as many as the time allows.
        variants: Augmented variants of each slice; likewise.
        seed: Seed of everything that is drawn.
        trained: What is trained, `ALL`, `PROMPT` or `ENCODER`.
        encoder_rank: Rank of adapters in the image encoder of official weights, for a new prompt generator; 0 for none.
        learning_rate: Peak learning rate.
        encoder_rate: Share of the learning rate at which the image encoder is trained.
        anchor: Share of the way back to the first weights that each step goes at the peak rate.
        warmup: Share of the steps in which the rate rises.
        ema: Decay of the averaged weights, which are the result.
        gradient_norm: Largest gradient norm.
        targets: Targets of a step, each a slice and an object; each slice is a support of others as well.
        empty: Share of the slices of a step that show no object, where there are such slices.
        emptied: Share of objects of a step whose support masks are emptied; nothing is to be drawn then.
        others_every: Every how many steps SAM's own prompts, corrections and foreign tokens are trained as well.
        shares: Shares of the way from the first weights to the trained ones, of which the folds choose one.
        folds: Largest number of folds; up to this number of patients each is left out alone.
        allow_single: Whether a single patient is accepted, with whom nothing can be tested.
        threads: Processor threads.
    """

    model: str = DEFAULT_MODEL
    base: str = ""
    minutes: float = 15.0
    steps: int | None = None
    variants: int | None = None
    seed: int = 1
    trained: str = ENCODER
    encoder_rank: int = 0
    learning_rate: float = 5e-4
    encoder_rate: float = 0.3
    anchor: float = 0.005
    warmup: float = 0.1
    ema: float = 0.95
    gradient_norm: float = 1.0
    targets: int = 8
    empty: float = 0.15
    emptied: float = 0.04
    others_every: int = 4
    shares: tuple[float, ...] = (0.5, 1.0)
    folds: int = 4
    allow_single: bool = False
    threads: int = 2

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: If one is not allowed.
        """
        allowed: dict[str, tuple[bool, str]] = {
            "minutes": (0 < self.minutes <= MOST_MINUTES, f"above 0 and at most {MOST_MINUTES:g}"),
            "steps": (self.steps is None or 1 <= self.steps <= 1_000_000, "at least 1"),
            "variants": (self.variants is None or 0 <= self.variants <= 64, "0 to 64"),
            "seed": (0 <= self.seed < 2**31, "0 or more, below 2147483648"),
            "trained": (self.trained in (ALL, PROMPT, ENCODER), f"{ALL}, {PROMPT} or {ENCODER}"),
            "encoder_rank": (
                0 <= self.encoder_rank <= (MOST_RANK if self.trained == ENCODER else 0),
                f"0 to {MOST_RANK}, and 0 where the image encoder stays as it is",
            ),
            "learning_rate": (0 < self.learning_rate < 1, "above 0 and below 1"),
            "encoder_rate": (0 < self.encoder_rate <= 1, "above 0 and at most 1"),
            "targets": (self.targets >= LEAST_TARGETS, f"at least {LEAST_TARGETS}"),
            "shares": (bool(self.shares) and all(0 < s <= 1 for s in self.shares), "shares above 0, at most 1"),
            "folds": (self.folds >= 2, "at least 2"),
            "threads": (self.threads >= 1, "at least 1"),
        }
        for name, (fine, said) in allowed.items():
            if not fine:
                raise UsageError(f"{name} is {getattr(self, name)}; allowed is {said}.")

    def identity(self) -> dict[str, Any]:
        """Return the values that must be equal to resume: all but a path and the permission to test nothing."""
        values = asdict(self)
        del values["allow_single"], values["base"]
        values["shares"] = list(self.shares)
        return values
