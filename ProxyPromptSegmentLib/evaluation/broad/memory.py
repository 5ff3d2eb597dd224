"""What SAM 2's memory adds: clips made of a patient's picture, followed with and without it by the same prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.evaluation.broad.records import Record
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs, support_set
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.imaging.metrics import dice_per_slice
from ProxyPromptSegmentLib.tracking.choices import TrackingMode

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.evaluation.broad.tasks import Task
    from ProxyPromptSegmentLib.inference.segmenter import EncodedSlices, Segmenter
    from ProxyPromptSegmentLib.networks.values import PreparedSupport

NAME = "memory"
WITH, PROGRAM, WITHOUT = "with memory", "with memory, re-anchored", "without memory"
FRAMES, TWIN_FROM = 8, 2  # a copy is there once the object has been seen alone
UNIT = (0.0, 1.0)


def made_clips(case: Case, number: int, draw: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield a clip for each event, made of the slice that shows most of an object, by a seed of its own.

    Args:
        case: The patient.
        number: Number of the object.
        draw: Number of the draw.

    Yields:
        The event, frames float32 ``(T, H, W)`` or ``(T, H, W, 3)`` in 0..1, and masks uint8 ``(T, H, W)``.
    """
    import torch

    from ProxyPromptSegmentLib.evaluation import made_clips as made

    index = int(case.masks[:, number].sum(axis=(1, 2)).argmax())
    pixels = window_to_unit(case.images[index], intensity_window(case.images))
    picture = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))
    picture = picture.permute(2, 0, 1) if picture.ndim == 3 else picture.unsqueeze(0)
    mask = torch.from_numpy(np.asarray(case.masks[index, number], np.float32))
    shape = (int(mask.shape[0]), int(mask.shape[1]))
    for place, event in enumerate(made.EVENTS):
        rng = np.random.default_rng([draw, place, number, *case.name.encode(), *case.patient.encode()])
        path = made.smooth_motion(FRAMES, shape, rng)
        frames = made.moved(picture.expand(FRAMES, -1, -1, -1), path)
        masks = (made.moved(mask.expand(FRAMES, 1, -1, -1), path) > 0.5).float()
        clip = made.happen(event, frames, masks, rng, TWIN_FROM)
        if clip is not None:
            images = clip[0].permute(0, 2, 3, 1).numpy()
            yield event, images[..., 0] if images.shape[-1] == 1 else images, clip[1][:, 0].numpy().astype(np.uint8)


def score_memory(segmenter: Segmenter, task: Task, case: Case, supports: int, draw: int) -> list[Record]:
    """Score the clips of a target: Dice of each frame, 1 where both are empty, and its mean over the clip."""
    pairs = draw_pairs(task.pool, case, supports, draw)
    if len(pairs) < supports:
        return []
    prepared, records = segmenter.prepare(support_set(pairs, case)), []
    spacing = (1.0, 1.0) if case.spacing_mm is None else (case.spacing_mm[1], case.spacing_mm[2])
    for number, name in enumerate(case.objects):
        if not case.masks[:, number].any():
            continue
        for event, images, truth in made_clips(case, number, draw):
            embedded = [segmenter.encode(image[None], UNIT, spacing) for image in images]
            for method in (WITH, PROGRAM, WITHOUT):
                masks = follow(segmenter, prepared.objects([number]), images, embedded, method, spacing)
                scores = dice_per_slice(truth, masks)
                records.append(
                    Record(
                        measure=NAME,
                        dataset=task.dataset,
                        object=name,
                        condition=event,
                        method=method,
                        supports=supports,
                        draw=draw,
                        case=case.name,
                        patient=task.unit(case),
                        score=float(scores.mean()),
                        slices={
                            "truth": [int(mask.any()) for mask in truth],
                            "drawn": [int(mask.any()) for mask in masks],
                            "dice": scores.round(4).tolist(),
                        },
                    )
                )
    return records


def follow(
    segmenter: Segmenter,
    prepared: PreparedSupport,
    images: np.ndarray,
    embedded: list[EncodedSlices],
    method: str,
    spacing_mm: tuple[float, float],
) -> np.ndarray:
    """Follow one object through a clip; masks ``(T, H, W)``."""
    from ProxyPromptSegmentLib.tracking.tracker import Tracker

    mode = TrackingMode.PROXY_ONLY if method == WITHOUT else TrackingMode.PROXY_AND_BANK
    tracker = Tracker(segmenter, mode, check_agreement=method == PROGRAM)
    tracker.start(prepared, UNIT, spacing_mm)
    answers = [tracker.step(image, encoded=one) for image, one in zip(images, embedded, strict=True)]
    return np.stack([answer.masks()[0] for answer in answers])
