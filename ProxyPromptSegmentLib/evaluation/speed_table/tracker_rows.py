"""The row of the table of speed about tracking: the tracker against the package's own propagation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.evaluation.speed_table.propagation import PackagePropagation
from ProxyPromptSegmentLib.evaluation.speed_table.row import Goal, Row
from ProxyPromptSegmentLib.evaluation.speed_table.timing import clock_of, in_turns
from ProxyPromptSegmentLib.evaluation.tracking import check_memory
from ProxyPromptSegmentLib.evaluation.tracking_memory import WINDOW, sweep_frame, watch_memory
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.networks.values import PreparedSupport

FRAMES, SIDE = 16, 256  # only squares are neither padded nor stretched
LONG, EVERY = 500, 50  # frames over which memory is sampled, and between two samples


def _prepared(segmenter: Segmenter, side: int) -> PreparedSupport:
    other, marked = sweep_frame(7, side, seed=1)
    return segmenter.prepare(SupportSet((SupportPair(other, marked, (1.0, 1.0), WINDOW),), ("vessel",)))


def tracker_rows(segmenter: Segmenter, repeats: int, frames: int = FRAMES, side: int = SIDE) -> list[Row]:
    """Return the rows of the tracker, with and without its check of agreement, against SAM 2's own propagation.

    Both track one object through the same frames with the same weights, from raw intensities to a mask of the frame's
    size, including the image encoder. Ours is prompted by a frame of another sweep, which is prepared in advance; SAM 2
    is given a mask of the first frame.

    Args:
        segmenter: A model with a memory.
        repeats: Number of repetitions.
        frames: Length of the sweep.
        side: Rows and columns of a frame.

    Raises:
        UsageError: If the model has no memory.
    """
    from ProxyPromptSegmentLib.tracking.tracker import Tracker

    check_memory(segmenter)
    sweep = [sweep_frame(index, side) for index in range(frames)]
    images = np.stack([image for image, _ in sweep])
    prepared, theirs = _prepared(segmenter, side), PackagePropagation(segmenter, frames, side)

    def follow(check_agreement: bool) -> Callable[[], list[np.ndarray]]:
        def call() -> list[np.ndarray]:
            tracker = Tracker(segmenter, check_agreement=check_agreement)
            tracker.start(prepared, WINDOW)
            return [tracker.step(image).masks() for image in images]

        return call

    def propagate() -> list[np.ndarray]:
        return theirs.run(images, sweep[0][1])

    ours, unchecked, package = in_turns([follow(True), follow(False), propagate], repeats, segmenter.device)
    device, clock = str(segmenter.device), clock_of(segmenter.device)
    name, against = segmenter.model.backbone.name, "SAM 2's own propagation, prompted by a mask"
    return [
        Row.of(f"tracker ({name}, {frames} frames)", against, device, ours, package, clock, Goal(most=1.1)),
        Row.of(f"tracker, agreement not checked ({name})", against, device, unchecked, package, clock),
    ]


def memory_rows(segmenter: Segmenter, frames: int = LONG, every: int = EVERY, side: int = SIDE) -> list[Row]:
    """Return the row of the memory that tracking a long sweep takes at its end against a tenth of it."""
    course = watch_memory(segmenter, _prepared(segmenter, side), frames, every, side)
    what, against = f"memory of a sweep of {frames} frames", f"after {every} frames"
    seen = course["device_mib"] or course["resident_mib"]
    if seen is None:
        return [Row(what=what, against=against, device=str(segmenter.device), skipped="the system does not say it")]
    ratio = seen["last"] / seen["first"]
    return [
        Row(
            what=what,
            against=against,
            device=str(segmenter.device),
            goal=Goal(most=1.1),
            ratios=(ratio,),
            clock="bytes",
            more={"memory": course},
        )
    ]
