"""Progress of work that says how far it is, and not what it has just done."""

from __future__ import annotations

from ProxyPromptSegmentLib.progress import Progress


class Stages:
    """Shows numbers of finished steps; another name, another total or a smaller number begins another stage."""

    def __init__(self, progress: Progress) -> None:
        """Show them on ``progress``."""
        self._progress = progress
        self._stage: tuple[str, int] | None = None
        self._done = 0

    def show(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show that ``done`` of ``total`` steps of ``what`` are done; a total of 0 is unknown."""
        if (what, total) != self._stage or done < self._done:
            self._progress.close()
            self._progress.start(total, what)
            self._stage, self._done = (what, total), 0
        self._progress.step(done - self._done, note)
        self._done = done
