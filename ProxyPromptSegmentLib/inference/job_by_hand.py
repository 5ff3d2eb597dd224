"""Jobs with prompts by hand: as corrections of what a support or a class prompts, or without either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.slice_choice import Slices
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand, OnSlice, only_outside
from ProxyPromptSegmentLib.inference.job import Job, plan_without_support
from ProxyPromptSegmentLib.remedies import Note, Severity
from ProxyPromptSegmentLib.support.asked import AskedObjects
from ProxyPromptSegmentLib.support.matching import slice_names


def plan_by_hand(target: Volume, said: ByHand, axis: str = "auto", slices: Slices = None) -> Job:
    """Plan a segmentation of what the user points at alone: only the slices on which something is said.

    Args:
        target: The volume.
        said: What the user says; its objects are segmented.
        axis: Slicing axis of the target; ``auto`` takes the acquired slices.
        slices: Slices of the target along that axis, counted from 0; by default those on which something is said.

    Raises:
        UsageError: If nothing is said, an object is nowhere said to be there, or something lies outside.
    """
    if not said:
        raise UsageError("nothing is prompted by hand; give a point, a box or a mask, or an annotated case.")
    job = plan_without_support(target, AskedObjects(said.objects, by_hand=True), axis, slices)
    job = with_hand(job, said)
    missing = only_outside(job.by_hand, job.support.objects)
    if missing is not None:
        raise UsageError(
            f"of '{missing}' only points outside of it are given; give at least one inside of it, a box or a mask."
        )
    return job if slices is not None else replace(job, slices=tuple(sorted(job.by_hand)))


def plan_tracked_by_hand(target: Volume, said: ByHand, axis: str = "auto", slices: Slices = None) -> Job:
    """Plan the tracking of what the user points at through all slices of a volume; arguments as of `plan_by_hand`.

    Raises:
        UsageError: As `plan_by_hand`.
    """
    job = plan_by_hand(target, said, axis, slices)
    count = len(job.view.take(target.array))
    return job if slices is not None else replace(job, slices=tuple(range(count)))


def plan_everything(target: Volume, axis: str = "auto", slices: Slices = None) -> Job:
    """Plan the search for everything on the slices of a target; arguments as of `plan_by_hand`.

    Raises:
        UsageError: If a slice of the target does not exist, or the axis is unusable.
    """
    return plan_without_support(target, AskedObjects(("everything",), by_hand=True), axis, slices)


def with_hand(job: Job, said: ByHand) -> Job:
    """Return a job with prompts by hand.

    The target is then read as it is stored, not resampled in the plane of the supports: a point lies on a slice of it.

    Args:
        job: The job, with or without a support.
        said: What the user says.

    Raises:
        UsageError: If an object is unknown, or something lies outside of the image or of the requested slices.
    """
    if not said:
        return job
    prompts: Mapping[int, OnSlice] = said.on_slices(job.view, job.target.geometry.shape_kji, job.support.objects)
    names = slice_names(job.target, job.view.axis)
    left_out = sorted(set(prompts) - set(job.slices))
    if left_out:
        raise UsageError(
            f"something is prompted by hand on {names.name(left_out[0])} along {job.view.axis}, which is not among the "
            "slices to segment; choose slices that contain it, or leave the choice of slices out."
        )
    notes = job.notes
    if job.reslicing is not None:
        text = (
            "The target is read as it is stored and not in the plane of the supports, since prompts by hand lie on its "
            "own slices."
        )
        notes = (*notes, Note(text, severity=Severity.INFORMATION))
    return replace(job, by_hand=prompts, reslicing=None, notes=notes)
