"""A job segmented by the segmenter alone, without engine, caches and fallbacks: what those must give as well."""

from __future__ import annotations

import time
from pathlib import Path

from ProxyPromptSegmentLib.inference.helps import USE_POSITION, Helps
from ProxyPromptSegmentLib.inference.results import ModelFacts
from ProxyPromptSegmentLib.inference.tiling.stack import segment_stack
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult, notes_on, put_back
from ProxyPromptSegmentLib.support.registration.sources import mask_prior

FACTS = ModelFacts(name="double", path=Path("double.safetensors"), sha256="ab" * 32, metadata={"steps": 7})


def run(segmenter, job, threshold=0.5, progress=None, cancel=None, on_slice=None, closer=False) -> VolumeResult:
    """Segment a job's slices and put them back where they came from; ``closer`` looks at small structures twice."""
    start = time.perf_counter()
    prepared = segmenter.prepare(job.support)
    ready = time.perf_counter()
    images, view = job.view.take(job.target.array), job.view
    stack = (images, prepared, job.window, view.spacing_mm, job.slices, progress, cancel, on_slice)
    prior = mask_prior(job.volumes, job.target, view.axis, view=view).masks if job.volumes else None
    helps = Helps(depths=job.depths if USE_POSITION else None, prior=prior)
    if closer:
        result = segment_stack(
            segmenter, images, job.support, job.window, view.spacing_mm, slices=job.slices, helps=helps
        )
    else:
        result = segmenter.segment(*stack, helps=helps)
    masks = result.masks(threshold)
    return VolumeResult(
        segmentation=put_back(masks, job.support, view, job.target.geometry),
        masks=masks,
        result=result,
        confidence=result.confidence(masks),
        cancelled=result.cancelled,
        notes=[*result.notes, *notes_on(result, masks, threshold)],
        seconds={"support": ready - start, "segmentation": time.perf_counter() - ready},
        model=FACTS,
        device=str(segmenter.device),
    )
