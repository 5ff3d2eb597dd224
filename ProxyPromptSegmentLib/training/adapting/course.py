"""How far an adaptation is: its time, the estimate of what is left, its state on disk, and what is reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.adapting.plan import seconds_left
from ProxyPromptSegmentLib.training.adapting.result import AdaptProgress, CasePicture, CaseScore, worst_of
from ProxyPromptSegmentLib.training.adapting.stage import Stage
from ProxyPromptSegmentLib.training.adapting.state import AdaptState

Report = Callable[[AdaptProgress], None]


class Course:
    """The course of one adaptation.

    Attributes:
        pictures: Pictures of tested cases, by case and number of the share; not stored.
        pace: Seconds of a step lately, because the load of a machine changes; 0 before the first.
        saved: When the state was saved last, `time.monotonic`.
    """

    def __init__(
        self,
        state: AdaptState,
        folds: Sequence[Sequence[int]],
        names: Sequence[str],
        shares: int,
        cancel: CancelToken,
        report: Report | None,
        began: float,
    ) -> None:
        """Begin, or continue with a state.

        Args:
            state: The state on disk.
            folds: The cases of each fold.
            names: Names of all cases.
            shares: Number of shares that are tested.
            cancel: Stops work that counts itself.
            report: Called often with how far it is.
            began: When this call began, `time.monotonic`.
        """
        self.pictures: dict[tuple[int, int], CasePicture] = {}
        self.pace, self.saved = 0.0, time.monotonic()
        self._state, self._folds, self._names, self._shares = state, folds, names, shares
        self._cancel, self._report, self._began = cancel, report, began
        self._stage, self._done = "", 0

    def scores(self) -> tuple[CaseScore, ...]:
        """Return the scores so far."""
        return self._state.found.scores(self._names)

    def picture(self) -> CasePicture | None:
        """Return the picture of the worst case; None if it was tested by an earlier run."""
        return self.pictures.get(worst_of(self.scores()) or (-1, -1))

    def seconds(self) -> float:
        """Return the seconds so far, those of earlier runs included."""
        return self._state.found.seconds + time.monotonic() - self._began

    def save(self, number: int | None = None, stage: Stage | None = None) -> None:
        """Write the state, that of a training first."""
        if number is not None and stage is not None:
            self._state.save_training(number, stage.state())
        self._state.found.seconds, self._began = self.seconds(), time.monotonic()
        self._state.save()
        self.saved = time.monotonic()

    def counted(self, title: str, count: int, work: Callable[[CancelToken, Callable[[int], None]], bool]) -> bool:
        """Do work that counts itself; stages of several stores follow each other under one title."""
        done = self._done if self._stage == title else 0
        self._stage, self._done = title, done

        def on_done(more: int) -> None:
            self._done += more
            self.tell(title, self._done, count)

        return work(self._cancel, on_done)

    def tell(self, title: str, done: int, total: int, loss: float | None = None, training: int | None = None) -> None:
        """Report how far a stage is."""
        if self._report is None:
            return
        self._report(
            AdaptProgress(
                stage=title,
                done=done,
                total=total,
                seconds=self.seconds(),
                seconds_left=self.left(title, done, total, training),
                loss=loss,
                scores=self.scores(),
                picture=self.picture(),
            )
        )

    def left(self, title: str, done: int, total: int, training: int | None) -> float | None:
        """Return the estimated seconds that are left, by the first steps and the latest ones."""
        in_training = training is not None
        return seconds_left(self._state.found, self._folds, self._shares, (title, done, total), in_training, self.pace)
