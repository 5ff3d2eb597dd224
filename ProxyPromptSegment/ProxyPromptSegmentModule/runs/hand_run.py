"""Marks by hand, answered while they are made: each slice on which something was said anew is decoded again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand, HandPrompt, OnSlice
from ProxyPromptSegmentLib.inference.job_by_hand import with_hand
from ProxyPromptSegmentLib.support.asked import AskedObjects
from ProxyPromptSegmentLib.worker.tasks import LiveSlice
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.runs.chain import Chain, outcome_of
from ProxyPromptSegmentModule.runs.chained import Submit
from ProxyPromptSegmentModule.runs.live_run import LiveRun
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job

Said = Callable[[], ByHand]
"""Reads what the marks on the target say now, on the main thread."""


class HandRun(LiveRun):
    """A run that answers marks by hand; `close` ends it with a summary, and `undo` takes all of it back.

    The marks are corrections of what supports or classes prompt, if the request has any; else they prompt alone. A
    slice from which the last mark was removed becomes what it was before the run.
    """

    def __init__(self, request: Request, submit: Submit, said: Said) -> None:
        """Start without an answer; `look` asks for one.

        Args:
            request: The description of the run; its objects are those that can be pointed at.
            submit: Submits a task and its label to the worker thread; returns the ticket.
            said: Returns what is said.
        """
        super().__init__(request, submit)
        self._said, self._news = said, False
        self._answered: dict[int, OnSlice] = {}
        self._kept_said: set[int] = set()
        self._problems: list[str] = []
        self._last = ByHand()

    def look(self) -> None:
        """Answer what the marks say now, in the next turn of the pump."""
        self._news = True

    @property
    def closing(self) -> bool:
        """Whether it ends, so that further marks need another run."""
        return self._closing or self._stopping

    @property
    def idle(self) -> bool:
        """Whether it waits for the next mark, so that polling can stop."""
        resting = not (self._news or self._closing or self._stopping)
        return self.ended or (resting and self.job is not None and self.ticket is None and not self._pending)

    # --- the chain ------------------------------------------------------------------------------------------------

    def _steps(self) -> Chain[None]:
        self.job = job = yield from self._planned(reslice=False)
        opened = False
        while self._news or not self._closing:
            if not self._news or self._stopping:
                yield None
                if self._stopping:
                    break
                continue
            self._news = False
            asked = self._asked(job)
            if asked is None:
                continue
            if not opened and asked:
                self._open(job)
                opened = True
            yield from self._decode(job, asked)
        if self._answered and not self._stopping:
            yield from self._summarised(job)

    def _asked(self, job: Job) -> dict[int, OnSlice] | None:
        """Return what is said on each slice; None, with a sentence, if it cannot be answered."""
        self.sentences = [one for one in self.sentences if one not in self._problems]
        self._problems.clear()
        try:
            self._last = self._said()
            asked = dict(with_hand(job, self._last).by_hand)
        except ProxyPromptError as error:
            self._complain(worded(error))
            return None
        if isinstance(job.support, AskedObjects) and job.support.by_hand:
            there = {index: {n: hand for n, hand in said.items() if hand.says_there} for index, said in asked.items()}
            if any(len(there[index]) < len(said) for index, said in asked.items()):
                self._complain(_("Mark the structure itself first: press Inside and click into it."))
            asked = {index: said for index, said in there.items() if said}
        return asked

    def _complain(self, sentence: str) -> None:
        self._problems.append(sentence)
        self.sentences.append(sentence)
        self._tell()

    def _decode(self, job: Job, asked: Mapping[int, OnSlice]) -> Chain[None]:
        """Decode the slices on which something else is said than before, unless more is said meanwhile."""
        gone = [index for index in self._answered if index not in asked]
        if gone:
            self._segments.restore(gone)
            for index in gone:
                del self._answered[index]
                self.written.discard(index)
            self._tell()
        objects = job.support.objects
        for index in [one for one in self._answered if one in asked]:
            names = [objects[number] for number in self._answered[index] if number not in asked[index]]
            if names:
                self._segments.restore([index], names)
        changed = [index for index, said in asked.items() if not _same(self._answered.get(index), said)]
        first = self.request.first
        changed.sort(key=lambda index: (index != first, index))
        for index in changed:
            if self._news or self._stopping:
                return
            self.what = _("Slice {number}").format(number=index)
            self._segments.only[index] = tuple(objects[number] for number in asked[index])
            one = replace(job, by_hand={index: asked[index]})
            self.result = yield from outcome_of(self._slice_task(one, index, self.request.settings.register))
            self._answered[index] = dict(asked[index])
            self._say_empty(job, index, asked[index])
            self._say_kept(index)

    def _say_empty(self, job: Job, index: int, said: OnSlice) -> None:
        """Say that the model drew nothing where something is marked."""
        masks = self.result.masks if isinstance(self.result, LiveSlice) else None
        for number, hand in said.items():
            if masks is not None and hand.says_there and not masks[number].any():
                text = _("On slice {number} the model draws nothing of “{name}” there; add a point, or draw a box.")
                self._complain(text.format(number=index, name=job.support.objects[number]))

    def _say_kept(self, index: int) -> None:
        """Say that a slice stays as it is, because the user has changed it."""
        if index not in self._kept_said and self._segments.has_kept(index):
            self._kept_said.add(index)
            said = _("Slice {number} was changed by hand and stays as it is; clicks do not change it.")
            self.sentences.append(said.format(number=index))
            self._tell()

    def _summarised(self, job: Job) -> Chain[None]:
        """Make the tables and the record of the answered slices; their masks are those that were shown."""
        slices = tuple(sorted(self._answered))
        self.job = job = replace(job, by_hand=dict(self._answered), slices=slices)
        task = replace(self._task(job), across_slices=False, fill_gaps=False, first=self.request.first)
        self.what = _("Summary")
        self.result = result = yield from outcome_of(task)
        self.take((yield from outcome_of(self._summary(job, result, said=self._last))))


def _same(one: OnSlice | None, other: OnSlice) -> bool:
    """Return whether the same is said."""
    return one is not None and one.keys() == other.keys() and all(_equal(one[n], other[n]) for n in other)


def _equal(one: HandPrompt, other: HandPrompt) -> bool:
    if (one.points, one.box) != (other.points, other.box) or (one.mask is None) != (other.mask is None):
        return False
    return one.mask is None or other.mask is None or np.array_equal(one.mask, other.mask)
