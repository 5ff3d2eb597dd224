"""Carries out the task that finds everything on the slices of a target."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.inference.by_hand.everything import everything_on, of_model
from ProxyPromptSegmentLib.inference.by_hand.labels import LinkedLabels
from ProxyPromptSegmentLib.inference.by_hand.result import EverythingResult
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.worker.precision import AUTO, SINGLE
from ProxyPromptSegmentLib.worker.steps import Steps
from ProxyPromptSegmentLib.worker.streaming import outwards

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.model_store import ModelStore
    from ProxyPromptSegmentLib.worker.tasks import EverythingTask


def everything(task: EverythingTask, engine: ModelStore, context: Context) -> EverythingResult:
    """Carry out an `EverythingTask`; finished slices are kept when it is cancelled or the memory ladder steps down."""
    job, choice = task.job, task.choice
    precision = SINGLE if task.precision == AUTO else task.precision
    steps = Steps(engine, context, task.model, task.device, job.support, precision=precision)
    images = job.view.take(job.target.array)
    labels = LinkedLabels(len(images), (images.shape[1], images.shape[2]), task.most_labels)
    # One after the other, because what is the same on neighbouring slices is linked.
    order = [index for batch in outwards(job.slices, 1, task.first) for index in batch]
    start = time.perf_counter()

    def work(segmenter: Segmenter) -> bool:
        nonlocal choice
        choice = of_model(segmenter, choice)
        left = [index for index in order if not labels.done[index]]
        context.progress.start(len(left) * choice.points**2, "finding everything")
        encodings = engine.embedded(segmenter, images, job.window, job.view.spacing_mm)
        for index in left:
            if context.cancel.cancelled:
                return True
            encoded = segmenter.embedded(images, [index], job.window, job.view.spacing_mm, encodings)
            if steps.ladder.footing.half:
                steps.check(encoded.features.top.float().cpu().numpy())  # of NaN no mask would be good, without a word
            found = everything_on(segmenter, encoded, choice, context.cancel, context.progress.step)
            if found is None:
                return True
            labels.add(index, found)
            context.labels_ready(index, labels.labels[index].copy())
        return False

    cancelled = steps.run(work)
    context.progress.close()
    steps.seconds["segmentation"] = max(0.0, time.perf_counter() - start - steps.seconds["model"])
    notes = [*job.notes, *map(Note, steps.ladder.rungs)]
    if labels.left_out:
        notes.append(
            Note(
                f"{labels.left_out} masks were left out, because there are at most {task.most_labels} labels; segment "
                "fewer slices, or ask for better or larger masks only."
            )
        )
    if labels.done.any() and not labels.count:
        notes.append(
            Note(
                "Nothing was found that is good and stable enough; lower the least quality or stability, or take more "
                "points."
            )
        )
    volume = np.zeros(job.target.geometry.shape_kji, np.uint16)
    job.view.take(volume)[...] = labels.labels
    return EverythingResult(
        labels=volume,
        geometry=job.target.geometry,
        qualities=labels.qualities,
        done=labels.done,
        cancelled=cancelled,
        notes=notes,
        seconds=steps.seconds,
        choice=choice,
        model=steps.facts(),
        device=steps.ladder.footing.device,
        precision=steps.precision,
    )
