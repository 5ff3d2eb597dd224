"""What the worker thread is asked to do: segment a volume, follow frames, preview a slice, say why.

A task is called on the worker thread with the engine and a context; it never changes the arrays that it was given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL, DEFAULT_TRACKING_MODEL

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.pipeline import Outcome
    from ProxyPromptSegmentLib.support.pairs import SupportSet
    from ProxyPromptSegmentLib.worker.context import Context


@dataclass(frozen=True)
class ModelFacts:
    """Which weights computed a result; ``metadata`` is what the checkpoint says of itself."""

    name: str
    sha256: str
    path: Path
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class TaskOutcome:
    """What came of a `SegmentTask`.

    Attributes:
        outcome: As `pipeline.run` gives it; its notes include those of the job and the rungs.
        model: The weights.
        device: Where it ended, such as ``cuda:0`` or ``cpu``.
        rungs: Sentences about what was done because memory ran out, in order; empty where it did not.
        cancelled: Whether it was stopped between two slices; the masks of finished slices are final all the same.
        slices: How many slices were segmented.
        embedded: How many of them had to be embedded; the others were kept from an earlier run.
        pairs: Support pairs, for `estimate.SpeedRecord`.
        objects: Number of objects, for the same.
        half: Whether it ended in half precision.
    """

    outcome: Outcome
    model: ModelFacts
    device: str
    rungs: list[str]
    cancelled: bool
    slices: int
    embedded: int
    pairs: int
    objects: int
    half: bool = False


@dataclass
class FramesOutcome:
    """What came of a `FramesTask`; ``T`` frames, ``N`` objects.

    Attributes:
        objects: Names.
        masks: uint8 ``(T, N, H, W)``; 0 where not done.
        confidence: float32 ``(T, N)``; 0 where not done.
        presence: float32 ``(T, N)``.
        agreement: float32 ``(T, N)``: how far proxy prompt and memory say the same; nan where not checked.
        disagrees: bool ``(T, N)``: where somebody should look.
        done: bool ``(T,)``.
        skipped: Why a frame could not be used, by its number.
        notes: What the user should know, as sentences; the rungs are among them.
        seconds: Time of each stage.
    """

    objects: tuple[str, ...]
    masks: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32]
    agreement: npt.NDArray[np.float32]
    disagrees: npt.NDArray[np.bool_]
    done: npt.NDArray[np.bool_]
    skipped: dict[int, str]
    notes: list[str]
    seconds: dict[str, float]
    model: ModelFacts
    device: str
    rungs: list[str]
    cancelled: bool
    half: bool = False


@dataclass
class LiveSlice:
    """What came of a `LiveTask`: one slice, judged on its own; ``masks`` (N, H, W), ``confidence`` (N,)."""

    index: int
    masks: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    model: ModelFacts
    device: str
    rungs: list[str]
    cancelled: bool


class TaskEngine(Protocol):
    """What a task needs of the engine that carries it out; `engine.Engine`, or something small in tests."""

    def segment(self, task: SegmentTask, context: Context) -> TaskOutcome:
        """Carry out a `SegmentTask`."""

    def follow(self, task: FramesTask, context: Context) -> FramesOutcome:
        """Carry out a `FramesTask`."""

    def preview(self, task: LiveTask, context: Context) -> LiveSlice:
        """Carry out a `LiveTask`."""

    def explain(self, task: WhyTask, context: Context) -> Any:
        """Carry out a `WhyTask`."""


@dataclass(frozen=True, eq=False)
class SegmentTask:
    """Segments a job; see `__call__`.

    Attributes:
        job: What to segment with what.
        model: Name or path.
        device: See `devices.choose_device`.
        threshold: Voxels of higher probability belong to the object, 0..1.
        first: Slice along the job's axis that is wanted first, then its neighbours both ways; the result is the same.
            Following ignores it, because there the order decides.
        follow: Whether slices are followed with SAM 2's memory (`track_volume`).
        keep: Whether embeddings are kept for the next run.
    """

    job: Job
    model: str = DEFAULT_MODEL
    device: str = "auto"
    threshold: float = THRESHOLD
    first: int | None = None
    follow: bool = False
    keep: bool = True

    def __call__(self, engine: TaskEngine, context: Context) -> TaskOutcome:
        """Runs on the worker thread."""
        return engine.segment(self, context)


@dataclass(frozen=True, eq=False)
class FramesTask:
    """Follows frames in the order of time, each with what came before it alone.

    Attributes:
        frames: ``(T, H, W)`` or ``(T, H, W, 3)``, turned as the support's images.
        support: What to follow.
        window: Intensities mapped to 0 and 1.
        spacing_mm: Pixel size (row, column).
        model: A SAM 2 model.
        device: See `devices.choose_device`.
        threshold: Pixels of higher probability belong to the object, 0..1.
        mode: One of `PROMPTED_MODES`.
        wanted: Numbers of the frames to segment; None means all. The time of the others passes.
    """

    frames: npt.NDArray[np.float32]
    support: SupportSet
    window: tuple[float, float]
    spacing_mm: tuple[float, float] = (1.0, 1.0)
    model: str = DEFAULT_TRACKING_MODEL
    device: str = "auto"
    threshold: float = THRESHOLD
    mode: TrackingMode = TrackingMode.PROXY_AND_BANK
    wanted: tuple[int, ...] | None = None

    def __call__(self, engine: TaskEngine, context: Context) -> FramesOutcome:
        """Runs on the worker thread."""
        return engine.follow(self, context)


@dataclass(frozen=True, eq=False)
class LiveTask:
    """Previews one slice along the job's axis; submit it with ``replaces="live"``."""

    job: Job
    index: int
    model: str = DEFAULT_MODEL
    device: str = "auto"
    threshold: float = THRESHOLD

    def __call__(self, engine: TaskEngine, context: Context) -> LiveSlice:
        """Runs on the worker thread."""
        return engine.preview(self, context)


@dataclass(frozen=True, eq=False)
class WhyTask:
    """Which support patches drove the prediction at a point; the outcome is an `attribution.Why`.

    Attributes:
        job: As segmented.
        index: Slice along the job's axis.
        row: In the turned slice; whole numbers are the centres of pixels.
        column: The same.
        object_index: Number of the object.
    """

    job: Job
    index: int
    row: float
    column: float
    object_index: int = 0
    model: str = DEFAULT_MODEL
    device: str = "auto"

    def __call__(self, engine: TaskEngine, context: Context) -> Any:
        """Runs on the worker thread."""
        return engine.explain(self, context)
