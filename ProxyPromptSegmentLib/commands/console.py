"""What the command line says and where: results on stdout; warnings, errors and progress on stderr."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ProxyPromptSegmentLib.progress import Progress
from ProxyPromptSegmentLib.wording import duration

BAR = 24
REDRAW_SECONDS = 0.1


class ConsoleProgress(Progress):
    """A line on a terminal that is drawn over itself: what, how much, slice k of n, time left."""

    def __init__(self, stream: TextIO, unit: str = "slice") -> None:
        """Draws on ``stream``; ``unit`` names a step."""
        self.stream, self.unit = stream, unit
        self.total, self.done, self.what, self.note = 0, 0, "", ""
        self.begun = self.drawn = 0.0
        self.width = 0

    def start(self, total: int, what: str) -> None:
        """Begins a stage."""
        self.total, self.done, self.what, self.note = total, 0, what, ""
        self.begun = time.monotonic()
        self._draw()

    def step(self, n: int = 1, note: str = "") -> None:
        """Goes on; draws at most ten times a second."""
        self.done, self.note = self.done + n, note
        if self.done >= self.total or time.monotonic() - self.drawn > REDRAW_SECONDS:
            self._draw()

    def close(self) -> None:
        """Wipes the line, so that what is said next stands alone."""
        if self.width:
            self.stream.write("\r" + " " * self.width + "\r")
            self.stream.flush()
            self.width = 0

    def _draw(self) -> None:
        filled = BAR * min(self.done, self.total) // max(self.total, 1)
        line = f"{self.what} [{'#' * filled}{'.' * (BAR - filled)}]"
        if self.total > 1:  # loading a model is one step, and no slice
            line += f" {self.unit} {self.done} of {self.total}"
        if 0 < self.done < self.total:
            left = (time.monotonic() - self.begun) / self.done * (self.total - self.done)
            line += f", {duration(left)} left"
        if self.note:
            line += f", {self.note}"
        self.stream.write("\r" + line.ljust(self.width))
        self.stream.flush()
        self.width = max(self.width, len(line))
        self.drawn = time.monotonic()


class Console:
    """Where a command speaks.

    Attributes:
        quiet: Whether only warnings and errors are said.
        json: Whether stdout belongs to the report alone.
    """

    def __init__(
        self,
        command: str = "proxyprompt",
        quiet: bool = False,
        json: bool = False,
        progress: bool | None = None,
        unit: str = "slice",
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        """Speaks as ``command``; draws progress on terminals unless told otherwise."""
        self.command, self.quiet, self.json = command, quiet, json
        self.out, self.err = out or sys.stdout, err or sys.stderr
        if progress is None:
            progress = not quiet and self.err.isatty()
        self.progress: Progress = ConsoleProgress(self.err, unit) if progress else Progress()

    def say(self, text: str) -> None:
        """A result or an explanation."""
        if not (self.quiet or self.json):
            self.out.write(text + "\n")
            self.out.flush()

    def result(self, text: str) -> None:
        """The text that a command was asked for; said in any case."""
        self.out.write(text if text.endswith("\n") else text + "\n")
        self.out.flush()

    def warn(self, text: str) -> None:
        """What the user should know although the work goes on."""
        self._to_err(f"{self.command}: warning: {text}")

    def error(self, text: str) -> None:
        """Why the work does not go on, in one line."""
        self._to_err(f"{self.command}: {' '.join(text.split())}")

    def status(self, text: str) -> None:
        """What the program does about a signal."""
        self._to_err(f"{self.command}: {text}")

    def _to_err(self, line: str) -> None:
        self.progress.close()
        self.err.write(line + "\n")
        self.err.flush()

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """Collects the library's own warnings while the block runs, and says each."""
        heard: list[str] = []
        handler = _Listener(self, heard)
        logger = logging.getLogger("ProxyPromptSegmentLib")
        logger.addHandler(handler)
        try:
            yield heard
        finally:
            logger.removeHandler(handler)


class _Listener(logging.Handler):
    """Turns the library's log records into warnings."""

    def __init__(self, console: Console, heard: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.console, self.heard = console, heard

    def emit(self, record: logging.LogRecord) -> None:
        """Says and keeps a record."""
        text = record.getMessage()
        text = text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
        self.heard.append(text)
        self.console.warn(text)
