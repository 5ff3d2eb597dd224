"""The tasks of the engine: segment, track, preview a slice, explain, find everything, prepare supports ahead.

A task is called with the engine and a context, on the worker thread or on the thread of a command; it never changes
its input arrays. Tasks are defined here without torch, and carried out by `engine.Engine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.frames.frame_choice import FrameChoice
from ProxyPromptSegmentLib.inference.by_hand.found import MOST_LABELS, EverythingChoice
from ProxyPromptSegmentLib.inference.by_hand.prompts import OnSlice
from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER
from ProxyPromptSegmentLib.inference.helps import USE_POSITION
from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.inference.tiling.choice import AUTO, TileChoice
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL, DEFAULT_TRACKING_MODEL
from ProxyPromptSegmentLib.worker.precision import AUTO as AUTO_PRECISION
from ProxyPromptSegmentLib.worker.settings import ComputeSettings

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.frames import FrameStream
    from ProxyPromptSegmentLib.inference.attribution import Why
    from ProxyPromptSegmentLib.inference.by_hand.result import EverythingResult
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.results import ModelFacts
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
    from ProxyPromptSegmentLib.support.asked import Asked
    from ProxyPromptSegmentLib.tracking.result import FramesResult
    from ProxyPromptSegmentLib.worker.context import Context


@dataclass(kw_only=True)
class LiveSlice:
    """The result of a `LiveTask`: one slice, segmented independently; ``masks`` (N, H, W), ``confidence`` (N,)."""

    index: int
    masks: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    model: ModelFacts
    device: str
    rungs: list[str]
    cancelled: bool


class TaskEngine(Protocol):
    """The interface of the engine for tasks; implemented by `engine.Engine` and by small doubles in tests."""

    def segment(self, task: SegmentTask, context: Context) -> VolumeResult:
        """Carry out a `SegmentTask`."""

    def follow(self, task: FramesTask, context: Context) -> FramesResult:
        """Carry out a `FramesTask`."""

    def preview(self, task: LiveTask, context: Context) -> LiveSlice:
        """Carry out a `LiveTask`."""

    def explain(self, task: WhyTask, context: Context) -> Why:
        """Carry out a `WhyTask`."""

    def find_everything(self, task: EverythingTask, context: Context) -> EverythingResult:
        """Carry out an `EverythingTask`."""

    def prepare(self, task: PrepareTask, context: Context) -> bool:
        """Carry out a `PrepareTask`."""


@dataclass(frozen=True, eq=False)
class SegmentTask(ComputeSettings):
    """A task that segments a job; its outcome is a `VolumeResult`.

    With ``follow``, slices are neither cut into tiles nor looked at closer; with it or ``in_time``, neither positions
    nor registered supports are used.

    Attributes:
        job: The job.
        model: Name or path of the model.
        first: Slice along the job's axis to segment first, followed by its neighbours in both directions; the result
            does not depend on it. Ignored with ``follow``, where the tracker determines the order.
        follow: Whether slices are tracked with SAM 2's memory (`track_volume`).
        mode: How they are tracked, see `Tracker`.
        in_time: Whether the slices are frames in time, in which an object may leave and return: gaps are never filled.
        keep: Whether embeddings are kept for the next run.
        surrogate: Whether the model's surrogate decoder draws, a coarse and fast preview; see
            `Segmenter.with_surrogate`.
    """

    job: Job
    _: KW_ONLY
    model: str = DEFAULT_MODEL
    first: int | None = None
    follow: bool = False
    mode: TrackingMode = TrackingMode.PROXY_AND_BANK
    in_time: bool = False
    keep: bool = True
    surrogate: bool = False

    def __call__(self, engine: TaskEngine, context: Context) -> VolumeResult:
        """Carry out the task."""
        return engine.segment(self, context)


@dataclass(frozen=True, eq=False)
class FramesTask:
    """A task that tracks through frames in the order of time, each with the memory of earlier frames only.

    Attributes:
        source: The frames, oriented as the support's images. They are read once, in order.
        support: The support set, with the objects to track; or objects that the model knows, which are looked for in
            each frame alone; or objects that are pointed at by hand.
        window: Intensities mapped to 0 and 1; None uses those of the first usable frame.
        choice: The frames to segment. Frames between them are not segmented, but their time passes for the memory.
        model: A SAM 2 model.
        device: See `devices.choose_device`.
        threshold: Pixels of higher probability belong to the object, 0..1.
        mode: One of `PROMPTED_MODES`.
        most_read: Number of supports that a frame reads if more are given: those most like it; None means all.
        ruled_out: Numbers of the objects that the frames cannot show; they are answered with nothing.
        by_hand: What the user says by hand, by frame; without a support, tracking begins with the first of these.
        precision: Whether half precision is used, see `precision.PRECISIONS`.
    """

    source: FrameStream
    support: Asked
    _: KW_ONLY
    window: tuple[float, float] | None = None
    choice: FrameChoice = field(default_factory=FrameChoice)
    model: str = DEFAULT_TRACKING_MODEL
    device: str = "auto"
    threshold: float = THRESHOLD
    mode: TrackingMode = TrackingMode.PROXY_AND_BANK
    most_read: int | None = MOST_READ
    ruled_out: frozenset[int] = frozenset()
    by_hand: Mapping[int, OnSlice] = field(default_factory=dict)
    precision: str = AUTO_PRECISION

    def __call__(self, engine: TaskEngine, context: Context) -> FramesResult:
        """Carry out the task."""
        return engine.follow(self, context)


@dataclass(frozen=True, eq=False)
class LiveTask:
    """A task that previews one slice along the job's axis; to be submitted with ``replaces="live"``.

    With a job that has prompts by hand on the slice, it answers them: its embedding is cached, so that a further click
    needs a decoding only.

    Attributes:
        register: Whether the job's volumes are registered to the target and joined with the prediction, so that it is
            that of the run before smoothing; for corrections of its result, for which they are registered already.
        precision: As of the run, so that they agree.
    """

    job: Job
    index: int
    _: KW_ONLY
    model: str = DEFAULT_MODEL
    device: str = "auto"
    threshold: float = THRESHOLD
    tiles: TileChoice | str | float = AUTO
    position: bool = USE_POSITION
    most_read: int | None = MOST_READ
    closer: bool = USE_CLOSER
    surrogate: bool = False
    register: bool = False
    precision: str = AUTO_PRECISION

    def __call__(self, engine: TaskEngine, context: Context) -> LiveSlice:
        """Carry out the task."""
        return engine.preview(self, context)


@dataclass(frozen=True, eq=False)
class WhyTask:
    """A task that finds the support patches behind the prediction at a point; its outcome is an `attribution.Why`.

    Attributes:
        job: The job that was segmented.
        index: Slice along the job's axis.
        row: Row in the oriented slice, in pixels; whole numbers are pixel centres.
        column: Column in the oriented slice, likewise.
        object_index: 0-based number of the object.
        tiles: The choice of tiles with which it was segmented, see `SegmentTask`.
        position: Whether the position of slices was used, likewise.
        most_read: The number of supports that a slice read, see `SegmentTask`.
        precision: As of the run.
    """

    job: Job
    index: int
    row: float
    column: float
    _: KW_ONLY
    object_index: int = 0
    model: str = DEFAULT_MODEL
    device: str = "auto"
    tiles: TileChoice | str | float = AUTO
    position: bool = USE_POSITION
    most_read: int | None = MOST_READ
    precision: str = AUTO_PRECISION

    def __call__(self, engine: TaskEngine, context: Context) -> Why:
        """Carry out the task."""
        return engine.explain(self, context)


@dataclass(frozen=True, eq=False)
class EverythingTask:
    """A task that finds everything on the slices of a job; its outcome is an `EverythingResult`.

    Attributes:
        job: The job; what is asked for does not matter, see `job_by_hand.plan_everything`.
        choice: Which masks are kept.
        most_labels: Largest number of labels of all slices together.
        first: Slice along the job's axis to begin with; None for the first one.
        model: Name or path of the model; its prompt generator is not used.
        device: See `devices.choose_device`.
        precision: Whether half precision is used, see `precision.PRECISIONS`; ``auto`` is single precision, since what
            half precision changes was measured on prompted masks only.
    """

    job: Job
    _: KW_ONLY
    choice: EverythingChoice = field(default_factory=EverythingChoice)
    most_labels: int = MOST_LABELS
    first: int | None = None
    model: str = DEFAULT_MODEL
    device: str = "auto"
    precision: str = AUTO_PRECISION

    def __call__(self, engine: TaskEngine, context: Context) -> EverythingResult:
        """Carry out the task."""
        return engine.find_everything(self, context)


@dataclass(frozen=True, eq=False)
class PrepareTask:
    """A task that prepares the supports of a job and keeps them on disk, so that the first run finds them there.

    Its outcome is whether all are prepared. Where no supports are kept, nothing is done.

    Attributes:
        job: The job; of its target, the geometry alone counts, see `job.plan_ahead`.
        model: Name or path of the model.
        device: See `devices.choose_device`.
        tiles: The choice of tiles of the run, see `SegmentTask`.
        closer: Whether the run looks at small structures closer.
        precision: As of the run.
    """

    job: Job
    _: KW_ONLY
    model: str = DEFAULT_MODEL
    device: str = "auto"
    tiles: TileChoice | str | float = AUTO
    closer: bool = USE_CLOSER
    precision: str = AUTO_PRECISION

    def __call__(self, engine: TaskEngine, context: Context) -> bool:
        """Carry out the task."""
        return engine.prepare(self, context)
