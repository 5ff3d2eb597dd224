"""The run of one study among others: left out if it was done before with the same inputs, or is a support itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.reports.run_record import record_text
from ProxyPromptSegmentModule.runs.chain import Chain, outcome_of
from ProxyPromptSegmentModule.runs.run import VolumeRun
from ProxyPromptSegmentModule.runs.study_tasks import ContentTask
from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.owners import result_segments
from ProxyPromptSegmentModule.states import StudyState

if TYPE_CHECKING:
    import slicer

    from ProxyPromptSegmentModule.runs.chained import Submit
    from ProxyPromptSegmentModule.runs.request import Request
    from ProxyPromptSegmentModule.runs.tasks import Summary
    from ProxyPromptSegmentModule.scene.segment_state import SegmentStates

WORK = "work"
"""Key of a run record: with what and on what the whole result was made, see `Work.key_of`."""

Reason = tuple[StudyState, str]
"""`StudyState.BEFORE` or `LEFT_OUT`, and why."""

Judge = Callable[[str], "tuple[str, Reason | None]"]
"""Called with the content of a study; returns its key, and why it is not segmented."""


class StudyRun(VolumeRun):
    """A run that looks at the content of its volume before anything is computed.

    Attributes:
        left_out: Why it was not segmented; None if it is.
    """

    def __init__(self, request: Request, submit: Submit, states: SegmentStates | None = None, *, judge: Judge) -> None:
        """Prepare the run; see `VolumeRun`.

        Args:
            request: The description of the run.
            submit: Submits a task to the worker thread.
            states: What the segments of the scene hold.
            judge: See `Judge`.
        """
        self._judge, self._key = judge, ""
        self.left_out: Reason | None = None
        super().__init__(request, submit, states)

    def _steps(self) -> Chain[None]:
        reading = yield from self._copied()
        content = yield from outcome_of(ContentTask(voxels=reading.voxels, geometry=reading.geometry))
        self._key, self.left_out = self._judge(content)
        if self.left_out is None and not self._stopping:
            yield from self._segmented(reading)

    def take(self, summary: Summary) -> None:
        """Store the summary; that of a whole result also says with what and on what it was made."""
        super().take(summary)
        if self.result is not None and not self.result.cancelled:
            self.record = {**self.record, WORK: self._key}
            self.record_text = record_text(self.record)


def work_of(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> str:
    """Return the key with which the whole result of a volume was made; "" if it is not known, or was undone."""
    node = result_nodes.record_of(segmentation, volume)
    try:
        content = json.loads(node.GetText() or "") if node is not None else {}
    except (ValueError, RecursionError):
        return ""
    found = content.get(WORK) if isinstance(content, dict) else ""
    return found if isinstance(found, str) and result_segments(segmentation, volume) else ""
