"""Measuring models on own cases: each case is segmented as ``segment`` does, with other patients as supports."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import GeometryError, InputError, SupportError
from ProxyPromptSegmentLib.evaluation.broad.baselines import copied_mean
from ProxyPromptSegmentLib.evaluation.cases.plan import (
    COPIED,
    TABLE,
    Candidate,
    CasesPlan,
    OwnCase,
    draw_supports,
    system_name,
)
from ProxyPromptSegmentLib.evaluation.growing_file import GrowingFile
from ProxyPromptSegmentLib.evaluation.report.panels import part_around, slice_with_masks, telling_slice
from ProxyPromptSegmentLib.evaluation.statistics.measuring import scores_of
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.imaging.geometry import axis_number
from ProxyPromptSegmentLib.inference.job import Job, plan
from ProxyPromptSegmentLib.progress import CancelToken

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.evaluation.statistics.surfaces import Spacing

ScoresFile = GrowingFile[Score]


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a model drew on a target.

    Attributes:
        masks: uint8 ``(S, N, H, W)``, in the orientation of the job's view.
        confidence: 0..1, ``(S, N)``.
    """

    masks: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]


Segment = Callable[[Candidate, Job], Drawn | None]
"""Segments a job with a model; None if it was cancelled."""


@dataclass
class Ended:
    """How a measurement ended.

    Attributes:
        complete: Whether it was not cancelled.
        failures: Case -> why it could not be segmented with some supports.
    """

    complete: bool = True
    failures: dict[str, str] = field(default_factory=dict)


def unit_of(candidate: Candidate, supports: int, draw: int, target: OwnCase) -> tuple[object, ...]:
    """Return what a unit of work is known by in the file of scores."""
    return candidate.name, candidate.sha256, supports, draw, target.name, target.digest


def units_of(wanted: CasesPlan) -> list[tuple[Candidate, int, int, OwnCase]]:
    """Return all units of work in their order: candidate, number of supports, draw, target."""
    return [
        (candidate, k, draw, target)
        for candidate in (COPIED, *wanted.candidates)
        for target in wanted.cases
        for k in wanted.supports
        for draw in wanted.draws_of(target, k)
    ]


def measure(
    wanted: CasesPlan,
    file: ScoresFile,
    segment: Segment,
    on_unit: Callable[[Candidate, int, int], None] | None = None,
    cancel: CancelToken | None = None,
) -> Ended:
    """Measure what the file does not have yet.

    Args:
        wanted: What to measure.
        file: Where each unit is written when it is done.
        segment: Segments a job with a model.
        on_unit: Called after each unit with its candidate, the number of units done and of all.
        cancel: Ends the measurement between two units or slices.
    """
    ended, units = Ended(), units_of(wanted)
    for number, (candidate, k, draw, target) in enumerate(units, 1):
        unit = unit_of(candidate, k, draw, target)
        if not file.has(unit):
            if cancel is not None and cancel.cancelled:
                return Ended(False, ended.failures)
            try:
                found = _measured(wanted, segment, candidate, target, k, draw, cancel)
            except (SupportError, GeometryError, InputError) as error:
                ended.failures.setdefault(target.name, str(error))
                continue
            if found is None:
                return Ended(False, ended.failures)
            scores, beside = found
            file.add(unit, scores, **beside)
        if on_unit:
            on_unit(candidate, number, len(units))
    return ended


def _measured(
    wanted: CasesPlan,
    segment: Segment,
    candidate: Candidate,
    target: OwnCase,
    supports: int,
    draw: int,
    cancel: CancelToken | None,
) -> tuple[list[Score], dict[str, Any]] | None:
    """Return the scores of one unit and its picture; None if it was cancelled."""
    chosen = draw_supports(wanted.cases, target, supports, draw, wanted.seed)
    slices = None if target.slices is None else list(target.slices)
    axis = "auto" if slices is None else target.axis
    job = plan(
        [case.support() for case in chosen],
        target.volume,
        wanted.objects,
        axis,
        slices,
        register=candidate is not COPIED,
        cancel=cancel,
    )
    case = _truth_of(wanted, target, job)
    begun = time.process_time()
    if candidate is COPIED:
        drawn = Drawn(copied_mean(list(job.support_set.pairs), case), np.zeros((0, 0), np.float32))
    else:
        answer = segment(candidate, job)
        if answer is None:
            return None
        kept = np.array(job.slices)
        drawn = Drawn(answer.masks[kept], answer.confidence[kept])
    scores = scores_of(
        drawn.masks,
        case,
        table=TABLE,
        system=system_name(candidate, supports),
        draw=draw,
        seconds=time.process_time() - begun,
        confidence=None if candidate is COPIED else _said(drawn),
    )
    beside: dict[str, Any] = {}
    if draw == 0 and candidate is not COPIED:
        number = telling_slice(case.masks, drawn.masks)
        part = part_around(case.masks[number], drawn.masks[number])
        truth, masks = case.masks[number][(slice(None), *part)], drawn.masks[number][(slice(None), *part)]
        jpeg = slice_with_masks(case.images[number][part], truth, masks, job.window, job.view.spacing_mm)
        beside = {"slice": job.slices[number], "jpeg": base64.b64encode(jpeg).decode("ascii")}
    return scores, beside


def _truth_of(wanted: CasesPlan, target: OwnCase, job: Job) -> Case:
    """Return a target with its truth as the job's slices show it."""
    kept = np.array(job.slices)
    by_name = {segment.name.casefold(): segment.mask for segment in target.truth.segments}
    masks = np.stack([job.view.take(by_name[name.casefold()]) for name in job.support.objects], axis=1)
    spacing: Spacing | None = None
    if wanted.in_mm:
        row, column = job.view.spacing_mm
        spacing = (float(tuple(reversed(target.volume.geometry.spacing_mm))[axis_number(job.view.axis)]), row, column)
    return Case(
        dataset=wanted.dataset,
        patient=target.patient,
        images=np.ascontiguousarray(job.view.take(target.volume.array)[kept], np.float32),
        masks=np.ascontiguousarray(masks[kept] > 0).astype(np.uint8),
        objects=tuple(job.support.objects),
        spacing_mm=spacing,
        name=target.name,
    )


def _said(drawn: Drawn) -> list[float | None]:
    """Return the mean confidence of each object over the slices on which it is drawn; None where nothing is."""
    found: list[float | None] = []
    for n in range(drawn.masks.shape[1]):
        shown = drawn.masks[:, n].any(axis=(1, 2))
        found.append(float(np.clip(drawn.confidence[shown, n].mean(), 0, 1)) if shown.any() else None)
    return found
