"""One segmentation from files to files, for the subcommands ``segment`` and ``demo``."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.commands.checks import check_inputs, check_outputs, with_kept
from ProxyPromptSegmentLib.commands.class_options import asked_by_name
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.hand_options import said_by_hand, with_masks
from ProxyPromptSegmentLib.commands.remedies import in_words
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.commands.run_task import new_engine, run_task
from ProxyPromptSegmentLib.errors import OutputError, SupportError, UsageError
from ProxyPromptSegmentLib.imaging.dicom_seg import (
    DICOM_SEG_SUFFIX,
    algorithm_name,
    check_dicom_seg,
    write_dicom_seg,
)
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.paths import suffix_of
from ProxyPromptSegmentLib.imaging.segmentations import (
    OUTPUT_SUFFIXES,
    Segment,
    Segmentation,
    read_segmentation,
    write_segmentation,
)
from ProxyPromptSegmentLib.imaging.slice_choice import SliceChoice
from ProxyPromptSegmentLib.imaging.volumes import read_volume
from ProxyPromptSegmentLib.inference.classes import plan_classes
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.inference.job_by_hand import plan_by_hand, with_hand
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.reports.preview import PREVIEW_SUFFIXES, write_preview
from ProxyPromptSegmentLib.reports.report import build_report, write_report
from ProxyPromptSegmentLib.reports.thumbnail import THUMBNAIL_SUFFIXES, write_thumbnail
from ProxyPromptSegmentLib.support.case import read_support_case
from ProxyPromptSegmentLib.support.selecting import select_segments
from ProxyPromptSegmentLib.weights.registry import resolve
from ProxyPromptSegmentLib.worker.tasks import SegmentTask

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.weights.vocabulary import PromptClass
    from ProxyPromptSegmentLib.worker.tasks import TaskEngine

    Masks = npt.NDArray[np.uint8]

_log = logging.getLogger(__name__)


@dataclass
class Kept:
    """What a process keeps between requests that differ only in their targets and outputs.

    Attributes:
        cases: The supports; None until they are read.
        engine: The engine with its model and the prepared supports; None until the first request is carried out.
    """

    cases: list[SupportCase] | None = None
    engine: TaskEngine | None = None


def perform(
    request: Request, console: Console, cancel: CancelToken, kept: Kept | None = None, whole: bool = False
) -> dict[str, Any] | None:
    """Carry out a request and write its files; wrong options and inputs raise before torch is loaded.

    Args:
        request: The request.
        console: Where warnings and progress go.
        cancel: Stops between two slices.
        kept: What earlier requests with the same supports and model left; it is filled.
        whole: Whether a result is discarded that lacks slices or one of its files.

    Returns:
        The report; None if the run was cancelled before the first slice (with ``whole``, before the last one), in which
        case nothing is written.

    Raises:
        ProxyPromptError: As the library's errors say.
    """
    kept = kept or Kept()
    with console.listening() as heard:
        begun = time.perf_counter()
        classes = _check(request)
        job, references = _read(request, classes, kept, cancel)
        said = [in_words(note) for note in job.notes]
        for note in said:
            console.note(note)
        read = time.perf_counter()
        if cancel.cancelled:
            return None
        task = SegmentTask(
            job,
            model=request.model,
            surrogate=request.surrogate,
            keep=False,  # the command ends afterwards, so the embeddings are not needed again
            **request.computing(),
        )
        kept.engine = kept.engine or new_engine(request.base, request.keep_supports)
        found = run_task(task, console, cancel, engine=kept.engine)
        if not found.result.done.any() or (whole and found.cancelled):
            return None
        notes = [in_words(note) for note in found.notes]
        for note in notes:
            if note not in said and note.text not in found.rungs:
                console.note(note)
        computed = time.perf_counter()
        written: list[Path] = []
        try:
            heard += _write(request, console, job, found, references, written)
            now = time.perf_counter()
            seconds = {"reading": read - begun, **found.seconds, "writing": now - computed, "total": now - begun}
            return _report(request, kept.cases or [], job, found, seconds, references, [*notes, *map(Note, heard)])
        except OutputError as error:
            raise (error if whole else with_kept(error, written)) from None


def _check(request: Request) -> tuple[PromptClass, ...]:
    """Validate everything that can be checked without reading the inputs; return the classes that are asked for."""
    SliceChoice.parse(request.slices, "--slices")
    request.support_choices()
    said_by_hand(request.points, request.boxes)
    check_inputs(request.inputs)
    outputs = (
        ("--output", request.output, (*OUTPUT_SUFFIXES, DICOM_SEG_SUFFIX)),
        ("--report", request.report, (".json",)),
        ("--preview", request.preview, PREVIEW_SUFFIXES),
        ("thumbnail", request.thumbnail, THUMBNAIL_SUFFIXES),
    )
    check_outputs(outputs, request.inputs, request.force)
    if suffix_of(request.output) == DICOM_SEG_SUFFIX:
        check_dicom_seg(request.output, request.target)
    resolve(request.model)
    return asked_by_name(request)


def read_supports(request: Request) -> list[SupportCase]:
    """Read the supports of a request.

    Raises:
        ProxyPromptError: If one cannot be used.
    """
    chosen: list[tuple[Path, Path, SliceChoice | None]] = []
    for (image, mask), slices in zip(request.supports, request.support_choices(), strict=True):
        if (image, mask, slices) in chosen:
            _log.warning("the support %s with %s is given twice; it counts once", image.name, mask.name)
        else:
            chosen.append((image, mask, slices))
    return [read_support_case(*one) for one in chosen]


def _read(
    request: Request, classes: tuple[PromptClass, ...], kept: Kept, cancel: CancelToken
) -> tuple[Job, dict[str, Masks] | None]:
    """Read the inputs and plan the job."""
    target = read_volume(request.target)
    if suffix_of(request.output) == ".png" and target.array.shape[0] != 1:
        raise OutputError(
            f"{request.output.name} can hold only one slice, but the target has {target.array.shape[0]}; write "
            ".seg.nrrd or .nii.gz instead."
        )
    if kept.cases is None:
        kept.cases = read_supports(request)
    cases = kept.cases
    truth = read_segmentation(request.truth, target.geometry) if request.truth else None
    chosen_slices = SliceChoice.parse(request.slices, "--slices")
    said = with_masks(said_by_hand(request.points, request.boxes), request.masks, target.geometry)
    if classes:
        job = with_hand(plan_classes(classes, target, request.axis, chosen_slices, request.any_modality), said)
    elif not cases:
        job = plan_by_hand(target, said, request.axis, chosen_slices)
    else:
        job = plan(
            cases, target, request.objects, request.axis, chosen_slices, register=request.register, cancel=cancel
        )
        job = with_hand(job, said)
    references = None
    if truth:
        references = match_truth(truth, job.support.objects, str(request.truth), request.objects)
    return job, references


def match_truth(
    truth: Segmentation, objects: tuple[str, ...], name: str, asked: tuple[str, ...] = ()
) -> dict[str, Masks]:
    """Return reference masks ``(K, J, I)`` by object name; a single segment matches a single object of any name.

    An object that was requested as ``NEWNAME=A+B`` is joined in the truth as in the support.

    Raises:
        UsageError: If the truth lacks an object, or has several of its name.
    """
    if len(objects) == 1 and len(truth.segments) == 1:
        return {objects[0]: truth.segments[0].mask}
    truth = _with_unions(truth, asked)
    return {wanted: _named(truth, wanted, name).mask for wanted in objects}


def _named(truth: Segmentation, wanted: str, name: str) -> Segment:
    """Return the truth's segment of an object; capitals count only among several that differ in nothing else.

    Raises:
        UsageError: If there is none, or not one alone.
    """
    found = [one for one in truth.segments if one.name.strip().casefold() == wanted.strip().casefold()]
    exact = [one for one in found if one.name.strip() == wanted.strip()]
    found = exact or found
    if not found:
        raise UsageError(
            f"--truth {name} has no segment named '{wanted}'; it has {', '.join(truth.names)}. Rename it "
            "there, or choose with --object which objects to compare."
        )
    if len(found) > 1:
        raise UsageError(f"--truth {name} has {len(found)} segments named '{wanted}'; rename those that are not meant.")
    return found[0]


def _with_unions(truth: Segmentation, asked: tuple[str, ...]) -> Segmentation:
    """Return the truth with the requested unions added, as far as it has their parts."""
    made = []
    for name in asked:
        if "=" in name:
            try:
                made += select_segments(truth, [name])
            except SupportError:
                continue  # the caller reports the missing name, in words about the truth
    own = {one.name.strip() for one in made}  # a union takes the place of a segment of its name
    return Segmentation([*(one for one in truth.segments if one.name.strip() not in own), *made], truth.geometry)


def _write(
    request: Request,
    console: Console,
    job: Job,
    found: VolumeResult,
    references: Mapping[str, Masks] | None,
    written: list[Path],
) -> list[str]:
    """Write segmentation and pictures, each of which ``written`` gets as soon as it is complete; return warnings."""
    if suffix_of(request.output) == DICOM_SEG_SUFFIX:
        warnings = write_dicom_seg(
            request.output,
            found.segmentation,
            request.target,
            replace=request.force,
            algorithm=algorithm_name(found.model.name, found.model.sha256),
            version=__version__,
        )
    else:
        warnings = write_segmentation(request.output, found.segmentation, request.target, replace=request.force)
    written.append(request.output)
    for warning in warnings:
        console.warn(warning)
    if request.preview:
        stacked = None if references is None else np.stack(list(references.values()))
        write_preview(request.preview, job, found, stacked, found.model.name, replace=request.force)
        written.append(request.preview)
    if request.thumbnail:
        write_thumbnail(request.thumbnail, job, found, request.force)
    return warnings


def _report(
    request: Request,
    cases: list[SupportCase],
    job: Job,
    found: VolumeResult,
    seconds: Mapping[str, float],
    references: Mapping[str, Masks] | None,
    notes: list[Note],
) -> dict[str, Any]:
    """Build the report, and write it if requested. Dice counts only the slices that were computed."""
    done = np.flatnonzero(found.result.done)
    scores = {
        name: dice(job.view.take(mask)[done], found.masks[done, n])
        for n, (name, mask) in enumerate((references or {}).items())
    }
    report = build_report(job, found, cases, request.settings, seconds, request.truth, scores, notes)
    if request.report:
        write_report(request.report, report, replace=request.force)
    return report
