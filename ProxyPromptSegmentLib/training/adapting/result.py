"""What an adaptation reports while it runs, and what it ends with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.support.case_files import Unusable

LEAST_GAIN = 0.005
"""Gain of the mean Dice of the folds from which a result counts as better; less is within what a choice of shares and
the noise of a few cases make."""


@dataclass(frozen=True, kw_only=True)
class CaseScore:
    """Dice of one case that was left out; each value is the mean over objects unless it says otherwise.

    Attributes:
        case: 0-based number of the case.
        name: Its name, for the screen of this machine only.
        before: Dice of each object with the model at the start.
        mean_mask: Dice of each object of the supports' mean mask, copied.
        after: For each share, Dice of each object with the model of its fold; empty before that fold is done.
    """

    case: int
    name: str
    before: tuple[float, ...]
    mean_mask: tuple[float, ...]
    after: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class CasePicture:
    """The slice of a left-out case on which the model of its fold is wrong most; for the screen of this machine only.

    Attributes:
        case: 0-based number of the case.
        index: Index of the slice along the axis of its case.
        image: Intensities, ``(H, W)`` or ``(H, W, 3)``.
        reference: Masks of the annotation, 0 or 1; uint8 ``(N, H, W)``.
        found: Masks of the model, likewise.
        window: Intensities ``(low, high)`` that are shown as black and white.
        spacing_mm: Pixel size (row, column).
    """

    case: int
    index: int
    image: npt.NDArray[np.float32]
    reference: npt.NDArray[np.uint8]
    found: npt.NDArray[np.uint8]
    window: tuple[float, float]
    spacing_mm: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class AdaptProgress:
    """How far an adaptation is.

    Attributes:
        stage: What is done, in words.
        done: Steps of the stage that are done.
        total: Steps of the stage.
        seconds: Seconds since the start, of earlier runs too.
        seconds_left: Estimated seconds until everything is done; None before the first steps were timed.
        loss: Loss of the last step; None outside of a training.
        scores: The scores so far.
        picture: Picture of the worst case so far, see `worst_of`; None before a fold is tested, and where the worst
            case was tested before the adaptation was resumed.
    """

    stage: str
    done: int
    total: int
    seconds: float
    seconds_left: float | None = None
    loss: float | None = None
    scores: tuple[CaseScore, ...] = ()
    picture: CasePicture | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the folds say.

    Attributes:
        before: Mean Dice over cases and objects with the model at the start.
        mean_mask: The same of the copied mean mask.
        after: The same with the chosen share.
        share: Share of the way from the first weights to the trained ones, chosen by the folds.
        share_number: Its number among the shares that were tested.
    """

    before: float
    mean_mask: float
    after: float
    share: float
    share_number: int = 0

    @property
    def better(self) -> bool:
        """Whether the result is better by `LEAST_GAIN`."""
        return self.after >= self.before + LEAST_GAIN


@dataclass(frozen=True, kw_only=True)
class AdaptResult:
    """The end of an adaptation.

    Attributes:
        name: Name of the model.
        objects: Names of the objects.
        scores: Scores of the cases that were left out; empty with a single patient.
        verdict: What they say; None if they are not complete.
        kept: Whether the model was registered.
        cancelled: Whether it was cancelled; the same call continues.
        path: The model's file; None if it was not kept.
        sha256: Its hash.
        steps: Steps of each training.
        seconds: Seconds, of earlier runs too.
        unusable: Cases that were left out, and why.
        picture: Picture of the worst case; see `AdaptProgress`.
    """

    name: str
    objects: tuple[str, ...]
    scores: tuple[CaseScore, ...] = ()
    verdict: Verdict | None = None
    kept: bool = False
    cancelled: bool = False
    path: Path | None = None
    sha256: str = ""
    steps: int = 0
    seconds: float = 0.0
    unusable: tuple[Unusable, ...] = field(default=())
    picture: CasePicture | None = None


def judge(scores: tuple[CaseScore, ...], shares: tuple[float, ...]) -> Verdict | None:
    """Choose the share with the best mean over all left-out cases; None if one is not tested yet."""
    if not scores or any(len(score.after) != len(shares) for score in scores):
        return None
    means = [_mean(score.after[number] for score in scores) for number in range(len(shares))]
    best = int(np.argmax(means))
    return Verdict(
        before=_mean(score.before for score in scores),
        mean_mask=_mean(score.mean_mask for score in scores),
        after=means[best],
        share=shares[best],
        share_number=best,
    )


def worst_of(scores: tuple[CaseScore, ...]) -> tuple[int, int] | None:
    """Return the worst case that was tested, and the share that is best so far; None before a fold is tested."""
    tested = [score for score in scores if score.after]
    if not tested:
        return None
    means = [_mean(score.after[number] for score in tested) for number in range(len(tested[0].after))]
    share = int(np.argmax(means))
    return min(tested, key=lambda score: float(np.mean(score.after[share]))).case, share


def _mean(values: object) -> float:
    return float(np.mean([np.mean(one) for one in values]))  # type: ignore[attr-defined]
