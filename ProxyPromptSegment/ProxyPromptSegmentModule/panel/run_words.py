"""What the panel says of a run: what it will take, what it takes, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentModule.states import RunState
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import duration, size

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.estimate import Estimate
    from ProxyPromptSegmentLib.worker.events import Forecasted
    from ProxyPromptSegmentModule.runs.run import Run


def words_of_end(run: Run) -> str:
    """Return the sentence for the end of a run that has not failed, with a placeholder for the slice count."""
    film = run.request.browser is not None
    if run.nothing_found and run.state == RunState.FINISHED:
        return (
            _("Finished; nothing was found on any item: every segment is empty.")
            if film
            else _("Finished; nothing was found on any slice: every segment is empty.")
        )
    if run.state == RunState.CANCELLED:
        return _("Cancelled; items done and kept: {count}.") if film else _("Cancelled; slices done and kept: {count}.")
    return _("Finished; items written: {count}.") if film else _("Finished; slices written: {count}.")


def words_of_forecast(forecast: Forecasted) -> str:
    """Return what a run takes in words, as it was measured on its first slices."""
    text = (
        _("Measured on the first slices: about {time} in all, and {size} of the graphics card's memory.")
        if forecast.device.startswith("cuda")
        else _("Measured on the first slices: about {time} in all; 3D Slicer then takes {size} of memory.")
    )
    return text.format(time=duration(forecast.seconds), size=size(forecast.memory_bytes))


def words_of_estimate(estimate: Estimate, first: bool) -> str:
    """Return an estimate in words.

    Args:
        estimate: Time and memory.
        first: Whether the model still has to be loaded.
    """
    seconds = estimate.seconds + (estimate.first_time_seconds if first else 0.0)
    memory = estimate.memory_bytes + (estimate.first_time_bytes if first else 0)
    text = _("About {time}, {size} of memory.").format(time=duration(seconds), size=size(memory))
    return text + (_(" Each slice is cut into {count} tiles.").format(count=estimate.tiles) if estimate.tiles else "")
