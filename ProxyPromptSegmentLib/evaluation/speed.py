"""Ratios of run time, each pair measured alternately in one run, because absolute times depend on the machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.networks.letterbox import images_to_tensor
from ProxyPromptSegmentLib.networks.values import Prompt
from ProxyPromptSegmentLib.support.pairs import support_from_volume

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices


def _alternate(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> tuple[list[float], list[float]]:
    """Return the times of two calls in seconds, alternating A B A B after one warm-up each."""
    import torch

    def timed(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed(first), timed(second)
    a, b = [], []
    for _ in range(repeats):
        a.append(timed(first))
        b.append(timed(second))
    return a, b


def measure_speed(segmenter: Segmenter, supports: int = 4, repeats: int = 7) -> dict[str, Any]:
    """Measure the cost of a proxy prompt relative to the model that it prompts.

    Two ratios on a phantom of 24 slices:

    * ``pipeline_over_frozen``: windowing, encoder, selective map, colorization, decoder and resizing, relative to
      encoder and decoder alone with one box as prompt; per target slice, with the same batches.
    * ``second_support_over_first``: a second support on an encoded volume, including its preparation, relative to
      the first support including the encoding.

    Args:
        segmenter: The model.
        supports: ``K``.
        repeats: Number of pairs of measurements, of which the median is taken.

    Returns:
        Ratios, medians in seconds and the hardware, as JSON values.
    """
    import torch

    case, annotation = pelvis_phantom(1)
    target, _ = pelvis_phantom(2)
    support = support_from_volume(case, annotation, ["prostate"], None, "k", supports)
    images, window = target.array, intensity_window(target.array)
    backbone, batch = segmenter.model.backbone, segmenter.batch
    box = segmenter.letterbox((images.shape[1], images.shape[2]))
    tensors = images_to_tensor(images, window, box).to(segmenter.device)
    corners = torch.tensor([[32.0, 32.0, 96.0, 96.0]], device=segmenter.device) * backbone.image_size / 128
    prepared = segmenter.prepare(support)

    def frozen() -> None:
        with torch.inference_mode():
            token = backbone.prompt_points(None, None, corners)
            for part in tensors.split(batch):
                prompt = Prompt(sparse=token.unsqueeze(0).expand(len(part), -1, -1, -1))
                backbone.decode(backbone.encode(part), prompt)

    def pipeline() -> None:
        segmenter.segment(images, prepared, window)

    def first_support() -> dict[int, EncodedSlices]:
        encoded: dict[int, EncodedSlices] = {}
        segmenter.segment(images, support, window, encoded=encoded)
        return encoded

    kept = first_support()

    def second_support() -> None:
        segmenter.segment(images, support, window, encoded=kept)

    alone, whole = _alternate(frozen, pipeline, repeats)
    first, second = _alternate(first_support, second_support, repeats)
    slices = len(images)
    return {
        "pipeline_over_frozen": round(statistics.median(np.divide(whole, alone).tolist()), 3),
        "second_support_over_first": round(statistics.median(np.divide(second, first).tolist()), 3),
        "median_seconds_per_slice": {
            "encoder_and_decoder_alone": round(statistics.median(alone) / slices, 5),
            "whole_pipeline": round(statistics.median(whole) / slices, 5),
            "first_support": round(statistics.median(first) / slices, 5),
            "second_support": round(statistics.median(second) / slices, 5),
        },
        "slices": slices,
        "supports": len(support.pairs),
        "repeats": repeats,
        "batch": batch,
        "device": str(segmenter.device),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
