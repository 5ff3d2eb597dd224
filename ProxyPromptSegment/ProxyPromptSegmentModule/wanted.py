"""What the choices of the panel amount to: a request to the logic, or the sentence that says what is missing."""

from __future__ import annotations

from typing import Any

import slicer

from ProxyPromptSegmentModule.parameters import BOX, LIVE, SEQUENCE, SLICES
from ProxyPromptSegmentModule.request import Output, Request, Settings
from ProxyPromptSegmentModule.texts import _
from ProxyPromptSegmentModule.views import slice_count, slice_on_screen


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
    corrected = () if scope in (LIVE, SEQUENCE) else corrected_slices(panel, axis)
    if corrected:
        every = range(slice_count(target, axis)) if slices is None else slices
        slices = tuple(index for index in every if index not in corrected)
    if slices is not None or scope in (SLICES, BOX, LIVE):
        settings = replace(settings, axis=axis)  # numbers of slices mean nothing without it
    first = None if scope == SEQUENCE else slice_on_screen(slicer.mrmlScene, target, axis)
    if first is not None and slices is not None and first not in slices:
        first = None
    objects = panel.objects.names()
    return Request(
        target,
        tuple(panel.table.cases(objects)),
        objects,
        slices,
        first,
        settings,
        _output_of(panel, bool(corrected)),
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


def _output_of(panel: Any, corrected: bool) -> Output:
    """Where to: segments of the last run are replaced where nobody has corrected them, or made that a support."""
    parameters, run = panel.parameters, panel.run
    segmentation, ids = parameters.outputSegmentation, None
    if run is not None and segmentation is not None and run.segmentation is segmentation:
        ids = dict(run.segment_ids) if corrected else run.sink.untouched()
    editor = None
    if parameters.honourEditor:
        scene, kind = slicer.mrmlScene, "vtkMRMLSegmentEditorNode"
        editor = scene.GetSingletonNode("SegmentEditor", kind) or scene.GetFirstNodeByClass(kind)
    return Output(segmentation, ids, editor)
