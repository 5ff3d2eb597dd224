"""Everything that slices show, as a segmentation with a segment for each thing; nothing is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice
from ProxyPromptSegmentLib.remedies import informing_first
from ProxyPromptSegmentLib.worker.tasks import EverythingTask
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.runs.chain import Chain, outcome_of
from ProxyPromptSegmentModule.runs.chained import Submit
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.runs.run import Run
from ProxyPromptSegmentModule.scene.labelled import write_labels
from ProxyPromptSegmentModule.scene.nodes import in_scene
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import slicer

    from ProxyPromptSegmentLib.inference.by_hand.result import EverythingResult
    from ProxyPromptSegmentModule.runs.destinations import Slices


class EverythingRun(Run):
    """A run whose result is a new segmentation of its own; ``undo`` removes it.

    Attributes:
        found: Number of things that were found; 0 before the end.
    """

    def __init__(self, request: Request, submit: Submit, choice: EverythingChoice | None = None) -> None:
        """Prepare to look for everything.

        Args:
            request: Target, slices and settings; it has no supports.
            submit: Submits a task and its label to the worker thread; returns the ticket.
            choice: Which masks are kept.
        """
        self._labelled = LabelledDestination(request.target)
        self._choice = choice or EverythingChoice()
        self._everything: EverythingResult | None = None
        super().__init__(request, submit, self._labelled)
        self.found = 0

    @property
    def makes_result(self) -> bool:
        """See `Run.makes_result`."""
        return False

    def _steps(self) -> Chain[None]:
        self.job = job = yield from self._planned(reslice=False)
        settings = self.request.settings
        task = EverythingTask(
            job, choice=self._choice, first=self.request.first, model=settings.model, device=settings.device
        )
        self._everything = found = yield from outcome_of(task)
        self.sentences += [said for said in map(worded, informing_first(found.notes)) if said not in self.sentences]
        self.found, self.nothing_found = len(found.names), not found.names
        if found.names:
            self._labelled.write_all(found, self.request.output.name)
            self.written = {index for index, done in enumerate(found.done) if done}
            self.sentences.append(_("Found: {count} things.").format(count=self.found))

    def _was_cancelled(self) -> bool:
        return self._stopping or (self._everything is not None and self._everything.cancelled)


class LabelledDestination:
    """The destination for labels: a new segmentation, which an undo removes.

    Attributes:
        segmentation: The segmentation node; None before anything was found.
        segment_ids: Segment id of each thing, by its name.
    """

    def __init__(self, target: slicer.vtkMRMLVolumeNode) -> None:
        """Store the target; the node is created by `write_all`."""
        self.segmentation: slicer.vtkMRMLSegmentationNode | None = None
        self.segment_ids: dict[str, str] = {}
        self._target = target

    @property
    def valid(self) -> bool:
        """Whether the nodes are still in the scene."""
        return in_scene(self._target) and (self.segmentation is None or in_scene(self.segmentation))

    def write_all(self, found: EverythingResult, name: str) -> None:
        """Write all labels at once."""
        name = name or _("{volume} everything").format(volume=self._target.GetName())
        self.segmentation, self.segment_ids = write_labels(self._target, found.labels, found.names, name)

    def write(self, slices: Slices) -> None:
        """Do nothing: labels are written at the end, when their names are known."""

    def finish(self) -> None:
        """Do nothing."""

    def withdraw(self) -> None:
        """Do nothing: without labels there is no node."""

    def restore_surfaces(self) -> None:
        """Do nothing: there were none."""

    def sign(self) -> None:
        """Do nothing: no run writes these segments again."""

    def kept(self) -> list[str]:
        """Return nothing: each run makes a new segmentation."""
        return []

    def undo(self) -> bool:
        """Remove the segmentation."""
        if self.segmentation is None or not in_scene(self.segmentation):
            return False
        scene = self.segmentation.GetScene()
        assert scene is not None  # it is in one
        scene.RemoveNode(self.segmentation)
        self.segmentation = None
        return True

    def redo(self) -> bool:
        """Return False: a removed segmentation cannot be restored."""
        return False

    def close(self) -> None:
        """Release the node."""
        self.segmentation = None
