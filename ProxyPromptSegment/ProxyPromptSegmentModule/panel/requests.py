"""What the choices of the panel amount to: a request to the logic, or the sentence that says what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer

from ProxyPromptSegmentModule.parameters import BOX, LIVE, SEQUENCE, SLICES
from ProxyPromptSegmentModule.runs.request import Output, Request, Settings
from ProxyPromptSegmentModule.scene.slice_views import slice_count, slice_on_screen
from ProxyPromptSegmentModule.translation import _


def settings_of(panel: Any) -> Settings:
    """Model, device and so on."""
    parameters, defaults = panel.parameters, Settings()
    return Settings(
        model=parameters.model or defaults.model,
        device=parameters.device,
        threshold=round(parameters.threshold, 2),
        axis=parameters.axis,
        follow=parameters.followMemory and panel.models.follows,
    )


def reason_of(panel: Any) -> str:
    """Why Apply cannot be pressed: one sentence that says what to do; "" if it can."""
    parameters = panel.parameters
    if panel.first_run.reason or panel.table is None:
        return panel.first_run.reason or _("Some packages are not installed yet.")
    rows = panel.table.rows()
    if not rows:
        return _("Add a support first: select an annotated case above and press “Add as support”.")
    if not panel.used_rows():
        problem = next((row.problem for row in rows if row.used and row.problem), "")
        return problem or _("Tick at least one support in the table.")
    return (
        panel.objects.reason()
        or (_("Select the volume to segment.") if parameters.targetVolume is None else "")
        or panel.target.reason()
        or panel.models.reason()
    )


def request_of(panel: Any) -> Request:
    """The job that Apply begins.

    Raises:
        ProxyPromptError: What is missing, as a sentence.
    """
    from dataclasses import replace

    panel.target.look_again()
    parameters, scope = panel.parameters, panel.target.scope()
    target, axis = parameters.targetVolume, panel.target.axis()
    settings, slices = settings_of(panel), panel.target.slices()
    replaced, kept = _replaceable(panel, scope, axis)
    if kept and scope != LIVE:
        every = range(slice_count(target, axis)) if slices is None else slices
        slices = tuple(index for index in every if index not in kept)
    if slices is not None or scope in (SLICES, BOX, LIVE):
        settings = replace(settings, axis=axis)  # numbers of slices mean nothing without it
    first = None if scope == SEQUENCE else slice_on_screen(slicer.mrmlScene, target, axis)
    if first is not None and (first in kept or (slices is not None and first not in slices)):
        first = None
    objects = panel.objects.names()
    return Request(
        target,
        tuple(panel.table.cases(objects)),
        objects,
        slices,
        first,
        settings,
        _output_of(panel, replaced),
        panel.target.browser() if scope == SEQUENCE else None,
    )


def corrected_slices(panel: Any, axis: str) -> tuple[int, ...]:
    """Slices of the result that somebody has corrected and made a support: they are right and stay as they are."""
    parameters = panel.parameters
    if parameters.targetVolume is None or parameters.outputSegmentation is None:
        return ()
    ids = (parameters.targetVolume.GetID(), parameters.outputSegmentation.GetID())
    return tuple(
        index
        for row in panel.table.rows()
        if (row.volume_id, row.segmentation_id) == ids and row.axis == axis and row.slices
        for index in row.slices
    )


def stays(panel: Any, request: Request, index: int) -> bool:
    """Whether a live preview leaves a slice alone: one that somebody has corrected in the segment that it writes."""
    return bool(request.output.segment_ids) and index in corrected_slices(panel, request.settings.axis)


def _replaceable(panel: Any, scope: str, axis: str) -> tuple[dict[str, str] | None, tuple[int, ...]]:
    """Segments of the last run that may be written again, and their slices that stay all the same.

    A segment may be if nobody has changed it since, or only slices that then were made supports. Where one of the
    objects has no such segment all of them get new ones, with all their slices.
    """
    parameters, run = panel.parameters, panel.run
    segmentation = parameters.outputSegmentation
    if run is None or segmentation is None or run.segmentation is not segmentation:
        return None, ()
    untouched = run.sink.untouched()
    corrected = () if scope == SEQUENCE else corrected_slices(panel, axis)
    if not corrected:
        return untouched, ()
    ids = {
        name: found
        for name, found in run.segment_ids.items()
        if name in untouched or _as_written(run, name, found, corrected)
    }
    return (ids, corrected) if set(panel.objects.names()) <= set(ids) else ({}, ())


def _as_written(run: Any, name: str, segment_id: str, corrected: Sequence[int]) -> bool:
    """Whether a segment is, beside the corrected slices, what a run has written into it."""
    import numpy as np

    from ProxyPromptSegmentLib.errors import ProxyPromptError
    from ProxyPromptSegmentModule.scene.nodes import segmentation_of

    outcome = getattr(run.result, "outcome", None)
    written = {one.name: one.mask for one in outcome.segmentation.segments} if outcome is not None else {}
    if name not in written:
        return False
    try:
        now = segmentation_of(run.segmentation, run.request.target, [segment_id])[0].segments[0].mask
    except ProxyPromptError:  # removed, or moved elsewhere
        return False
    number = "kji".index(run.job.view.axis)
    others = [np.delete(mask, corrected, number) for mask in (now, written[name])]
    return bool(np.array_equal(*others))


def _output_of(panel: Any, replaced: dict[str, str] | None) -> Output:
    """Where to, and by which rules."""
    editor = None
    if panel.parameters.honourEditor:
        scene, kind = slicer.mrmlScene, "vtkMRMLSegmentEditorNode"
        editor = scene.GetSingletonNode("SegmentEditor", kind) or scene.GetFirstNodeByClass(kind)
    return Output(panel.parameters.outputSegmentation, replaced, editor)
