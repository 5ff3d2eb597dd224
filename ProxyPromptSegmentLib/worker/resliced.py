"""Segmenting a tilted target in the plane of its supports, and bringing the result back onto its own slices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import axis_number
from ProxyPromptSegmentLib.inference.calibration import EVIDENCE
from ProxyPromptSegmentLib.inference.results import SegmentResult, empty_result
from ProxyPromptSegmentLib.remedies import Note

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.worker.tasks import SegmentTask, WhyTask

_DECIDED = 0.01  # by which a voxel that was added or removed after the prediction lies beyond the threshold


def in_support_plane(task: SegmentTask) -> SegmentTask:
    """Return the task on the resampled target: all of its slices that the wanted slices of the target cross."""
    job = task.job
    if job.reslicing is None:
        return task
    positions = _positions(job, job.slices)
    count = job.reslicing.geometry.shape_kji[0]
    low = int(np.clip(np.floor(positions.min()) - 1, 0, count - 1))
    high = int(np.clip(np.ceil(positions.max()) + 1, low, count - 1))
    return replace(task, job=_turned(job, tuple(range(low, high + 1))), first=None)


def point_in_support_plane(task: WhyTask) -> WhyTask:
    """Return the question on the resampled target, at the voxel nearest to its point."""
    job = task.job
    if job.reslicing is None:
        return task
    shape = job.target.geometry.shape_kji
    numbers = [np.arange(n, dtype=np.float32) for n in shape]
    place = [
        float(job.view.take(np.broadcast_to(numbers[axis].reshape([-1 if n == axis else 1 for n in range(3)]), shape))[
            task.index, round(task.row), round(task.column)
        ])
        for axis in range(3)
    ]  # fmt: skip
    grid = job.reslicing.geometry
    there = grid.lps_to_index(job.target.geometry.index_to_lps(place[::-1]))[::-1]
    inside = [int(np.clip(round(float(n)), 0, size - 1)) for n, size in zip(there, grid.shape_kji, strict=True)]
    turned = _turned(job, (inside[0],))
    return replace(task, job=turned, index=inside[0], row=float(inside[1]), column=float(inside[2]))


def brought_back(
    result: SegmentResult,
    masks: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.float32],
    job: Job,
    threshold: float,
) -> SegmentResult:
    """Return a result on the resampled target as one on the target's own slices.

    Its masks are those of the resampled target, interpolated: presence, neighbours and small parts were taken into
    account there, so the probabilities of the new result are final.

    Args:
        result: The result on the resampled target.
        masks: Its final masks, ``(S, N, H, W)``.
        confidence: Their confidence, ``(S, N)``.
        job: The job on the target.
        threshold: Probability above which a voxel belongs to an object.
    """
    assert job.reslicing is not None
    shape = job.view.take(np.broadcast_to(np.uint8(0), job.target.geometry.shape_kji)).shape
    found = empty_result(result.objects, shape[0], (shape[1], shape[2]), result.one_piece, False, result.thin)
    found.fill_gaps, found.notes, found.cancelled = False, list(result.notes), result.cancelled
    complete = [index for index in job.slices if not result.cancelled or _is_complete(job, index, result.done)]
    if len(complete) < len(job.slices):
        text = (
            f"Cancelled while the target was segmented in the plane of its support: {len(complete)} of "
            f"{len(job.slices)} slices are complete and kept. Each slice of the target is put together from many "
            "there, so the others stay as they were."
        )
        found.notes.append(Note(text))
    if not complete:
        return found
    found.done[complete] = True
    gated = result.gated_probability()
    for n in range(len(result.objects)):
        drawn = masks[:, n] > 0
        settled = np.where(
            drawn, np.maximum(gated[:, n], threshold + _DECIDED), np.minimum(gated[:, n], threshold - _DECIDED)
        )
        back = job.reslicing.brought_back(np.clip(settled, 0, 1).astype(np.float32), job.target.geometry)
        own = job.view.take(back) * found.done[:, None, None]
        highest = own.max(axis=(1, 2))
        found.presence[:, n] = highest
        found.probability[:, n] = own / np.maximum(highest, 1e-6)[:, None, None]
        shown = np.flatnonzero(drawn.any(axis=(1, 2)))
        if shown.size:
            for index in np.flatnonzero(highest > threshold).tolist():
                there = _positions(job, (index,))[0][own[index] > threshold]
                found.quality[index, n] = np.interp(there, shown, confidence[shown, n]).mean()
    if result.evidence is not None and found.evidence is not None:
        distances = result.evidence[..., EVIDENCE.index("distance")]
        for n in np.flatnonzero(np.isfinite(distances).any(axis=0)).tolist():
            found.evidence[found.done, n] = result.evidence[int(np.nanargmin(distances[:, n])), n]
    return found


def _is_complete(job: Job, index: int, done: npt.NDArray[np.bool_]) -> bool:
    """Return whether all resampled slices that a slice of the target crosses were segmented; beyond them is nothing."""
    positions = _positions(job, (index,))
    low, high = int(np.floor(positions.min() + 1e-3)), int(np.ceil(positions.max() - 1e-3))
    return bool(done[max(0, low) : max(0, high + 1)].all())


def _turned(job: Job, slices: tuple[int, ...]) -> Job:
    """Return the job on some slices of the resampled target."""
    assert job.reslicing is not None
    return replace(
        job,
        target=job.reslicing.volume(job.target),
        view=job.reslicing.view,
        slices=slices,
        notes=(),
        backwards=False,
        reslicing=None,
    )


def _positions(job: Job, slices: range | tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return for each pixel of some slices of the target the fractional number of the resampled slice there."""
    assert job.reslicing is not None
    own = job.target.geometry
    along = (np.linalg.inv(job.reslicing.geometry.affine) @ own.affine)[2]
    k, j, i = (np.arange(n, dtype=np.float64) for n in own.shape_kji)
    numbers = [k, j, i]
    axis = axis_number(job.view.axis)
    numbers[axis] = np.asarray(list(slices), np.float64)
    k, j, i = numbers
    place = along[2] * k[:, None, None] + along[1] * j[:, None] + along[0] * i + along[3]
    found: npt.NDArray[np.float32] = job.view.take(place.astype(np.float32))
    return found
