"""The entry points for scripts: nodes and names in, a run out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.inference.by_hand.prompts import DEFAULT_OBJECT, ByHand
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentModule.runs.everything_run import EverythingRun
from ProxyPromptSegmentModule.runs.pump import Pump
from ProxyPromptSegmentModule.runs.request import Output, Request, Settings, class_choice
from ProxyPromptSegmentModule.runs.run import Run
from ProxyPromptSegmentModule.scene import hand_marks, marks_said, nodes
from ProxyPromptSegmentModule.scene.masks import segmentation_of
from ProxyPromptSegmentModule.states import Mark

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.geometry import Axis
    from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice
    from ProxyPromptSegmentLib.support.case import SupportCase

    Support = SupportCase | tuple[slicer.vtkMRMLVolumeNode, slicer.vtkMRMLSegmentationNode]


class ForScripts:
    """The part of the logic that scripts call; the panel builds its own requests."""

    pump: Pump

    def start(self, request: Request) -> Run:
        """Start a run."""
        raise NotImplementedError

    def everything(self, request: Request, choice: EverythingChoice | None = None) -> EverythingRun:
        """Start to look for everything."""
        raise NotImplementedError

    def segment(
        self,
        target: slicer.vtkMRMLVolumeNode,
        supports: Sequence[Support],
        objects: Sequence[str] | None = None,
        segmentation: slicer.vtkMRMLSegmentationNode | None = None,
        slices: Sequence[int] | None = None,
        settings: Settings | None = None,
        output: Output | None = None,
        browser: slicer.vtkMRMLSequenceBrowserNode | None = None,
        wait: bool = True,
        on_change: Callable[[Run], None] | None = None,
    ) -> Run:
        """Segment a volume with annotated cases as supports; the entry point for scripts.

        Args:
            target: Volume node, or the proxy volume of a sequence, with its ``browser``.
            supports: Pairs (volume node, segmentation node), or `SupportCase` of the library.
            objects: Names of the objects to segment; by default all that every support has.
            segmentation: Segmentation node to add segments to; a new one by default.
            slices: Slices of the target, counted from 0; all by default.
            settings: Model, device, threshold and so on.
            output: Masking, segments that may be replaced, a name; ``segmentation`` overrides its own.
            browser: Sequence browser node: every item of the sequence is segmented, into a sequence of segmentations.
            wait: Whether to return only when the run has ended. Otherwise the window's timer continues the run; a
                script without a window calls `wait`.
            on_change: Called with the run after every change.

        Returns:
            The run: ``state`` is its outcome, ``segmentation`` and ``segment_ids`` identify the result.

        Raises:
            ProxyPromptError: If a support or the request is not usable, or, with ``wait``, if the run fails.

        Example::

            logic = slicer.util.getModuleLogic("ProxyPromptSegment")
            run = logic.segment(new_case, [(earlier_case, earlier_segmentation)], ["prostate"])
            slicer.util.saveNode(run.segmentation, "new_case.seg.nrrd")
        """
        output = output or Output()
        if segmentation is not None:
            output = replace(output, segmentation=segmentation)
        request = Request(
            target=target,
            cases=tuple(case_of(support) for support in supports),
            objects=tuple(objects) if objects else None,
            slices=slices,
            settings=settings or Settings(),
            output=output,
            browser=browser,
        )
        return self._carried_out(request, wait, on_change)

    def segment_by_class(
        self,
        target: slicer.vtkMRMLVolumeNode,
        classes: Sequence[str] | str = (),
        model: str = "",
        segmentation: slicer.vtkMRMLSegmentationNode | None = None,
        slices: Sequence[int] | None = None,
        settings: Settings | None = None,
        output: Output | None = None,
        browser: slicer.vtkMRMLSequenceBrowserNode | None = None,
        any_modality: bool = False,
        wait: bool = True,
        on_change: Callable[[Run], None] | None = None,
    ) -> Run:
        """Segment structures that a model knows by name, without a support; the entry point for scripts.

        Args:
            target: See `segment`.
            classes: Names, synonyms or SNOMED CT codes; by default all of a model that knows few, such as a structure
                model.
            model: Name of the model; by default the first one on this machine that knows the classes.
            segmentation: See `segment`.
            slices: See `segment`.
            settings: Device, threshold and so on; ``model`` overrides its own.
            output: See `segment`.
            browser: See `segment`.
            any_modality: Whether a class is also looked for in an image of a modality that cannot show it. Otherwise
                its segment stays empty, and ``run.sentences`` says why.
            wait: See `segment`.
            on_change: See `segment`.

        Raises:
            ProxyPromptError: If no model knows the classes (the nearest ones are named), or, with ``wait``, if the run
                fails.

        Example::

            logic = slicer.util.getModuleLogic("ProxyPromptSegment")
            run = logic.segment_by_class(new_case, "prostate")
        """
        output = output or Output()
        if segmentation is not None:
            output = replace(output, segmentation=segmentation)
        model, found = class_choice((classes,) if isinstance(classes, str) else classes, model)
        request = Request(
            target=target,
            classes=found,
            objects=tuple(one.name for one in found),
            slices=slices,
            settings=replace(settings or Settings(), model=model),
            output=output,
            browser=browser,
            any_modality=any_modality,
        )
        return self._carried_out(request, wait, on_change)

    def segment_by_hand(
        self,
        target: slicer.vtkMRMLVolumeNode,
        said: ByHand,
        supports: Sequence[Support] = (),
        classes: Sequence[str] | str = (),
        objects: Sequence[str] | None = None,
        segmentation: slicer.vtkMRMLSegmentationNode | None = None,
        slices: Sequence[int] | None = None,
        settings: Settings | None = None,
        output: Output | None = None,
        wait: bool = True,
        on_change: Callable[[Run], None] | None = None,
    ) -> Run:
        """Segment what is pointed at by hand, alone or as corrections of what supports or classes prompt.

        Args:
            target: See `segment`.
            said: Points, boxes and masks in voxels of the target; `said_by_marks` reads them from Markups nodes.
            supports: Annotated cases whose result is corrected.
            classes: Classes whose result is corrected, instead.
            objects: Names of the objects of the supports; by default all that every support has.
            segmentation: See `segment`.
            slices: By default all with supports or classes, else those on which something is said.
            settings: See `segment`.
            output: See `segment`.
            wait: See `segment`.
            on_change: See `segment`.

        Raises:
            ProxyPromptError: If nothing is said, something lies outside of the image, or, with ``wait``, if the run
                fails.
        """
        output, settings = output or Output(), settings or Settings()
        if segmentation is not None:
            output = replace(output, segmentation=segmentation)
        named = (classes,) if isinstance(classes, str) else tuple(classes)
        model, found = class_choice(named) if named else (settings.model, ())
        request = Request(
            target=target,
            cases=tuple(case_of(support) for support in supports),
            classes=found,
            objects=tuple(one.name for one in found) or (tuple(objects) if objects else None),
            slices=slices,
            settings=replace(settings, model=model),
            output=output,
            by_hand=said,
        )
        return self._carried_out(request, wait, on_change)

    def find_everything(
        self,
        target: slicer.vtkMRMLVolumeNode,
        slices: Sequence[int] | None = None,
        choice: EverythingChoice | None = None,
        settings: Settings | None = None,
        name: str = "",
        wait: bool = True,
    ) -> EverythingRun:
        """Segment everything that slices show, as a new segmentation with a segment for each thing.

        Args:
            target: The volume.
            slices: Slices of the target, counted from 0; all by default.
            choice: Which masks are kept.
            settings: Model, device and axis.
            name: Name of the segmentation.
            wait: See `segment`.

        Raises:
            ProxyPromptError: If a slice does not exist, or, with ``wait``, if the run fails.
        """
        request = Request(target=target, slices=slices, settings=settings or Settings(), output=Output(name=name))
        run = self.everything(request, choice)
        self._wait_for(run, wait)
        return run

    def said_by_marks(self, target: slicer.vtkMRMLVolumeNode, axis: Axis = "k") -> ByHand:
        """Return what the marks on a target say that the panel, or `new_mark`, has made."""
        return marks_said.said_by(slicer.mrmlScene, target, axis)

    def new_mark(
        self, target: slicer.vtkMRMLVolumeNode, kind: Mark | str, name: str = DEFAULT_OBJECT
    ) -> slicer.vtkMRMLMarkupsNode:
        """Return the Markups node for points ``inside`` or ``outside`` of an object, or a new one for a ``box``."""
        return hand_marks.new_mark(target, Mark(kind), name)

    def _carried_out(self, request: Request, wait: bool, on_change: Callable[[Run], None] | None) -> Run:
        """Start a run for a script and, if asked for, wait for its end.

        Raises:
            ProxyPromptError: If the request is not usable, or, with ``wait``, if the run fails.
        """
        run = self.start(request)
        if on_change is not None:
            run.observe(on_change)
        self._wait_for(run, wait)
        return run

    def _wait_for(self, run: Run, wait: bool) -> None:
        """Wait for a run, if asked for.

        Raises:
            ProxyPromptError: If it fails.
        """
        if wait:
            self.wait(run)
            if run.error:
                raise ProxyPromptError(run.error)

    def wait(self, run: Run, seconds: float | None = None) -> bool:
        """Block until a run has ended and write its slices; for scripts. Return False after a timeout."""
        until = None if seconds is None else time.monotonic() + seconds
        while not run.ended:
            if until is not None and time.monotonic() > until:
                return False
            self.pump.turn()
            slicer.app.processEvents()
        return True


def case_of(support: Support) -> SupportCase:
    """Return the support case of two nodes, or the given case itself."""
    if not isinstance(support, (tuple, list)):
        return support

    volume_node, segmentation_node = support
    volume, _notes = nodes.volume_of(volume_node)
    segmentation, _more = segmentation_of(segmentation_node, volume_node)
    return SupportCase(volume, segmentation)
