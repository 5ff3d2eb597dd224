"""Leave-one-out test of the supports: one that the others cannot reproduce is annotated differently, or wrongly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import SupportError
from ProxyPromptSegmentLib.imaging.geometry import slice_view, take_slices
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
from ProxyPromptSegmentLib.imaging.slice_choice import slice_numbers
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.inference.helps import USE_POSITION, Helps
from ProxyPromptSegmentLib.inference.job import Job, plan
from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.inference.tiling.stack import segment_stack
from ProxyPromptSegmentLib.inference.tiling.tiler import plan_for
from ProxyPromptSegmentLib.inference.volume_result import put_back
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.review.findings import Finding
from ProxyPromptSegmentLib.support.case import SupportCase, shared_objects
from ProxyPromptSegmentLib.support.matching import annotated_axis, slice_names
from ProxyPromptSegmentLib.support.pairs import SupportSet, support_from_volume
from ProxyPromptSegmentLib.support.selecting import select_segments

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

LOW = 0.4
"""Dice below which a support is not reproduced, whatever the others reach."""

BELOW_OTHERS = 0.25
"""A Dice this far below the median of the others is reported."""


@dataclass(frozen=True)
class LeaveOneOut:
    """The agreement of one support with what the other supports predict for it.

    Attributes:
        case: Index of the case in the given list.
        object: Name of the object.
        dice: Dice of the annotation against the prediction from the others, over ``slices``, 0..1.
        slices: The slices that were segmented, counted from 0 along the axis of the annotation.
        where: Their names.
    """

    case: int
    object: str
    dice: float
    slices: tuple[int, ...]
    where: str = ""


def leave_one_out(
    segmenter: Segmenter,
    cases: Sequence[SupportCase],
    objects: Sequence[str] | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> list[LeaveOneOut]:
    """Segment each support with the others as supports.

    With several cases there is one result per case and object, over the case's annotated slices. With a single case,
    each of its support slices is segmented with the other slices; there is one result per slice and object.

    Args:
        segmenter: Model and device.
        cases: The supports, at least one.
        objects: Names of the objects; by default those that all cases share.
        progress: Receives one step per case (or slice).
        cancel: Checked between slices; the results so far are returned.

    Returns:
        The results; an object is omitted where no other support shows it.

    Raises:
        SupportError: If there is no case, or nothing to compare (one case with one annotated slice), or the cases have
            no object in common.
        GeometryError: If the masks of a case lie on another grid than its image.
        DeviceError: If memory runs out.
    """
    progress, cancel = progress or Progress(), cancel or CancelToken()
    if not cases:
        raise SupportError("There is no support to check; give at least one annotated case.")
    names = list(objects) if objects else shared_objects([case.segmentation for case in cases])[0]
    answers: list[LeaveOneOut] = []
    try:
        for some in (_slices_of if len(cases) == 1 else _cases)(segmenter, cases, names, progress, cancel):
            answers += some
            progress.step()
    finally:
        progress.close()
    return answers


def _cases(
    segmenter: Segmenter, cases: Sequence[SupportCase], names: list[str], progress: Progress, cancel: CancelToken
) -> Iterator[list[LeaveOneOut]]:
    """Yield the results of each case, with the others as supports."""
    progress.start(len(cases), "checking supports against each other")
    for number, case in enumerate(cases):
        answers = []
        others = [other for other in cases if other is not case]
        for some, supports in _groups(case, others, names):
            kept = Segmentation(select_segments(case.segmentation, some), case.segmentation.geometry)
            axis, wanted = _marked(case, kept)
            found = _segmented(segmenter, plan(supports, case.volume, some, axis, wanted, reslice=False), cancel)
            if found is None:
                return
            for truth, segment in zip(kept.segments, found.segments, strict=True):
                planes = (take_slices(mask, axis)[wanted] for mask in (truth.mask, segment.mask))
                where = slice_names(case.volume, axis).names(wanted)
                answers.append(LeaveOneOut(number, truth.name, dice(*planes), tuple(wanted), where))
        yield answers


def _segmented(segmenter: Segmenter, job: Job, cancel: CancelToken) -> Segmentation | None:
    """Return the masks of a job; None if it was cancelled."""
    images, view = job.view.take(job.target.array), job.view
    helps = Helps(depths=job.depths if USE_POSITION else None)
    result = segment_stack(
        segmenter, images, job.support_set, job.window, view.spacing_mm, slices=job.slices, cancel=cancel, helps=helps
    )
    return None if result.cancelled else put_back(result.masks(THRESHOLD), job.support, view, job.target.geometry)


def _groups(
    case: SupportCase, others: list[SupportCase], names: list[str]
) -> Iterator[tuple[list[str], list[SupportCase]]]:
    """Yield objects with the other cases that have them: all objects together if some case has all, else singly."""
    mine = [name for name in names if _has(case, name)]
    together = [other for other in others if all(_has(other, name) for name in mine)]
    if mine and together:
        yield mine, together
        return
    for name in mine:
        if having := [other for other in others if _has(other, name)]:
            yield [name], having


def _has(case: SupportCase, name: str) -> bool:
    try:
        return bool(select_segments(case.segmentation, [name]))
    except SupportError:
        return False


def _marked(case: SupportCase, kept: Segmentation) -> tuple[str, list[int]]:
    """Return axis and slices of the annotation; if slices were chosen to prompt, only these."""
    axis = case.axis or annotated_axis(case.volume, kept)
    shown = np.any([take_slices(segment.mask, axis).any(axis=(1, 2)) for segment in kept.segments], axis=0)
    chosen = slice_numbers(case.slices, len(shown))
    return axis, [int(n) for n in np.flatnonzero(shown)] if chosen is None else chosen


def _slices_of(
    segmenter: Segmenter, cases: Sequence[SupportCase], names: list[str], progress: Progress, cancel: CancelToken
) -> Iterator[list[LeaveOneOut]]:
    """Yield the results of each support slice of a single case, with its other slices as supports."""
    case = cases[0]
    kept = Segmentation(select_segments(case.segmentation, names), case.segmentation.geometry)
    axis = case.axis or annotated_axis(case.volume, kept)
    numbers = slice_numbers(case.slices, take_slices(case.volume.array, axis).shape[0])
    support = support_from_volume(case.volume, kept, None, numbers, axis, oriented=True)
    if len(support) < 2:
        raise SupportError(
            "The support has a single slice, so there is nothing to check it against. Annotate another slice, or add "
            "another case."
        )
    progress.start(len(support), "checking slices against each other")
    view, window = slice_view(case.volume.geometry, axis), intensity_window(case.volume.array)
    images, prepared = view.take(case.volume.array), segmenter.prepare(support)
    tiled = plan_for(segmenter, support, (images.shape[1], images.shape[2]), view.spacing_mm).tiles > 0
    called = slice_names(case.volume, axis)
    for number, pair in enumerate(support.pairs):
        rest = [n for n in range(len(support)) if n != number]
        shown = [
            n
            for n in range(len(support.objects))
            if pair.masks[n].any() and any(support.pairs[other].masks[n].any() for other in rest)
        ]
        index = int(pair.slice_index or 0)
        answers = []
        if shown:
            image = images[index : index + 1]
            if tiled:
                others = _part_of(support, rest, shown)
                result = segment_stack(segmenter, image, others, window, view.spacing_mm, cancel=cancel)
            else:
                without = prepared.supports(rest).objects(shown)
                result = segmenter.segment(image, without, window, view.spacing_mm, cancel=cancel)
            if result.cancelled:
                return
            for n, found in zip(shown, result.masks(THRESHOLD)[0], strict=True):
                answers.append(
                    LeaveOneOut(0, support.objects[n], dice(pair.masks[n], found), (index,), called.name(index))
                )
        yield answers


def _part_of(support: SupportSet, pairs: Sequence[int], objects: Sequence[int]) -> SupportSet:
    """Return those of some pairs that show any of some objects, with these objects alone."""
    chosen = list(objects)
    kept = [support.pairs[n] for n in pairs if support.pairs[n].masks[chosen].any()]
    made = tuple(replace(pair, masks=pair.masks[chosen]) for pair in kept)
    return SupportSet(made, tuple(support.objects[n] for n in chosen))


def trial_findings(answers: Sequence[LeaveOneOut], names: Sequence[str] = ()) -> list[Finding]:
    """Return findings about supports that the others cannot reproduce.

    Measured with ``Testing/benchmarks/support_trials.py`` (sam-compact; eight times four training or validation
    patients): of good supports 0 of 32 of PROMISE12 and 2 of 32 of PSFHS were reported; of those with masks shifted by
    a quarter of the image 8 of 8 and 8 of 8, mirrored up-down 4 of 8 and 8 of 8, in reversed order of slices 3 of 8.
    If the model does not know such images at all, no support is reproduced; the finding then says so.

    Args:
        answers: Results of `leave_one_out`.
        names: Names of the cases; "support 1" and so on by default.
    """
    findings = []
    for name in dict.fromkeys(answer.object for answer in answers):
        rows = [answer for answer in answers if answer.object == name]
        if len(rows) > 1 and max(row.dice for row in rows) < LOW:
            findings.append(
                Finding(
                    "warning",
                    f"The supports do not reproduce each other: Dice of '{name}' is at most "
                    f"{max(row.dice for row in rows):.2f}. Either each is annotated differently, or the model does "
                    "not know such images: check the masks, or try another model.",
                    name,
                )
            )
            continue
        findings += [_not_reproduced(row, rows, names, answers) for row in rows if _stands_out(row, rows)]
    return findings


def _stands_out(answer: LeaveOneOut, rows: list[LeaveOneOut]) -> bool:
    """Return whether a result is low, in absolute terms or compared with the others of its object."""
    rest = [row.dice for row in rows if row is not answer]
    return answer.dice < LOW or (len(rest) > 1 and answer.dice < median(rest) - BELOW_OTHERS)


def _not_reproduced(
    answer: LeaveOneOut, rows: list[LeaveOneOut], names: Sequence[str], answers: Sequence[LeaveOneOut]
) -> Finding:
    """Return the finding about one support, or about one slice if there is a single support."""
    rest = [row.dice for row in rows if row is not answer]
    single = len({row.case for row in answers}) == 1 and len(answers) > 1 and len(answer.slices) == 1
    name = names[answer.case] if answer.case < len(names) else f"support {answer.case + 1}"
    where = answer.where or SliceNames().names(answer.slices)
    what = f"{where[0].upper()}{where[1:]}" if single else f"'{name}'"
    others = f", the others {median(rest):.2f}" if rest else ""
    return Finding(
        "warning",
        f"{what} cannot be reproduced by the other supports: Dice {answer.dice:.2f} for '{answer.object}'{others}. "
        f"Check whether '{answer.object}' is annotated there as elsewhere; if it is, the images differ.",
        answer.object,
        answer.slices,
    )
