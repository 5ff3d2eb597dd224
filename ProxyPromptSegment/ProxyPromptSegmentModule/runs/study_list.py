"""What lists of studies have in common, of the scene or of a folder: states of the studies, and how far they are."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from ProxyPromptSegmentModule.runs.chained import Chained
from ProxyPromptSegmentModule.states import RunState, StudyState


@dataclass(frozen=True, kw_only=True)
class HowFar:
    """How far studies are.

    Attributes:
        number: Number of the study that is being segmented, counted from 1.
        total: Number of all studies.
        name: Its name.
        done: How many of its slices are done.
        slices: All of its slices; 0 while they are not known.
    """

    number: int
    total: int
    name: str
    done: int
    slices: int


class StudyList(Chained):
    """Studies that are segmented alike; used from the main thread only.

    Attributes:
        abandoned: Whether it was ended by something else than the user's cancel, such as a scene that was closed.
    """

    abandoned = False

    @abstractmethod
    def states(self) -> list[StudyState]:
        """Return what became of each study."""

    @abstractmethod
    def how_far(self) -> HowFar | None:
        """Return how far it is; None between two studies."""

    def count(self, *states: StudyState) -> int:
        """Return how many studies are in one of some states."""
        return sum(state in states for state in self.states())

    @property
    def open(self) -> int:
        """How many studies are still to be done."""
        return self.count(StudyState.WAITING, StudyState.RUNNING)

    def abandon(self, sentence: str) -> None:
        """End immediately, for example because the scene is closed."""
        if not self.ended:
            self._stopping = self.abandoned = True
            if self.ticket is not None:
                self.ticket.cancel()
            self.sentences.append(sentence)
            self._end(RunState.CANCELLED)

    def _was_cancelled(self) -> bool:
        return self._stopping and self.open > 0
