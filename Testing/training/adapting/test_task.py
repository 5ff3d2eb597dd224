"""An adaptation on the engine's thread, as the panel runs it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from adapt_cases import QUICK, checked, write_cases
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.adapting.result import AdaptProgress
from ProxyPromptSegmentLib.training.adapting.task import AdaptTask
from ProxyPromptSegmentLib.worker.context import Context
from ProxyPromptSegmentLib.worker.events import Advanced


def test_its_progress_comes_as_events_and_cancel_stops_it(clinic):
    cancel, events = CancelToken(), []

    def emit(event):
        events.append(event)
        if isinstance(event, Advanced) and event.how.stage.startswith("training fold"):
            cancel.cancel()

    task = AdaptTask(checked(write_cases(clinic / "cases", 2)), "mine", settings=QUICK, device="cpu")
    result = task(None, Context(7, cancel, emit))
    assert result.cancelled and not result.kept
    assert all(isinstance(event, Advanced) and event.ticket == 7 for event in events)
    stages = list(dict.fromkeys(event.how.stage for event in events))
    assert stages[:2] == ["embedding", "testing before"] and stages[-1] == "training fold 1 of 2"
    assert isinstance(events[-1].how, AdaptProgress) and events[-1].how.seconds_left is not None
    assert len(events[-1].how.scores) == 2
