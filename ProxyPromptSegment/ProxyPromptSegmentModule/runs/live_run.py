"""Live preview: segments the slice on screen while the user scrolls or changes the supports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.worker.tasks import LiveTask
from ProxyPromptSegmentModule.runs.chain import Chain, outcome_of
from ProxyPromptSegmentModule.runs.chained import Submit
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.runs.run import VolumeRun
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job


class LiveRun(VolumeRun):
    """A run whose slices are requested one by one; `close` ends it, and `undo` reverts the whole session."""

    def __init__(self, request: Request, submit: Submit) -> None:
        """Start with ``request.first``, if given."""
        super().__init__(request, submit)
        self._wanted: int | None = request.first
        self._closing = False

    def show(self, index: int) -> None:
        """Segment this slice next; it replaces an earlier request that has not started yet.

        The caller has to start the pump, see `SegmentationLogic.show`.
        """
        self._wanted = index

    def close(self) -> None:
        """End the preview; its slices are kept as one undo step."""
        self._closing = True

    @property
    def idle(self) -> bool:
        """Whether it waits for the next request, so that polling can stop."""
        resting = self._wanted is None and not self._closing and not self._stopping
        return self.ended or (resting and self.job is not None and self.ticket is None and not self._pending)

    def advance(self) -> None:
        """Advance as every run; a cancel ends the preview between two slices."""
        if self._stopping and self.ticket is None:
            self._closing = True
        super().advance()

    def _steps(self) -> Chain[None]:
        self.job = job = yield from self._planned(reslice=False)  # single slices are shown as they are stored
        self._open(job)
        while not self._closing:
            if self._wanted is None:
                yield None
                continue
            index, self._wanted = self._wanted, None
            if not 0 <= index < len(job.view.take(job.target.array)):
                continue
            self.what = _("Slice {number}").format(number=index)
            self.result = yield from outcome_of(self._slice_task(job, index))

    def _slice_task(self, job: Job, index: int, register: bool = False) -> LiveTask:
        """Return the task that segments one slice; ``register`` as of `LiveTask`."""
        settings = self.request.settings
        return LiveTask(
            job=job,
            index=index,
            model=settings.model,
            device=settings.device,
            precision=settings.precision,
            threshold=settings.threshold,
            tiles=settings.tiles,
            most_read=settings.most_read,
            position=settings.position,
            closer=settings.closer,
            register=register,
        )
