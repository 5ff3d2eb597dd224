"""Output of the command line: results on stdout; warnings, errors and progress on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ProxyPromptSegmentLib.commands.progress_bars import BYTE, ByteProgress, ConsoleProgress
from ProxyPromptSegmentLib.commands.progress_lines import LineProgress
from ProxyPromptSegmentLib.commands.streams import as_line, no_stream, written
from ProxyPromptSegmentLib.errors import EXIT_NOTHING_FOUND
from ProxyPromptSegmentLib.progress import Progress
from ProxyPromptSegmentLib.remedies import Note, Severity


class Console:
    """The output of one command.

    Attributes:
        quiet: Whether only warnings and errors are printed, no notes that only inform.
        json: Whether nothing but the report is printed on stdout.
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
        """Prefix messages with ``command``, and show how far it is.

        Args:
            command: Its name.
            quiet: Whether only warnings and errors are printed.
            json: Whether nothing but the report is printed on stdout.
            progress: Whether a bar is drawn; by default on a terminal, and elsewhere a line is written from time to
                time, neither if ``quiet``.
            unit: The name of one step; `BYTE` for a transfer.
            out: Where results go.
            err: Where everything else goes.
        """
        self.command, self.quiet, self.json = command, quiet, json
        self.out, self.err = out or sys.stdout or no_stream(), err or sys.stderr or no_stream()
        self.progress = Progress()
        if progress or (progress is None and not quiet and self.err.isatty()):
            self.progress = ByteProgress(self.err, unit) if unit == BYTE else ConsoleProgress(self.err, unit)
        elif progress is None and not quiet:
            self.progress = LineProgress(self.status, unit)

    def count_in(self, unit: str) -> None:
        """Call the steps of what is shown next ``unit``."""
        if isinstance(self.progress, ConsoleProgress | LineProgress):
            self.progress.unit = unit

    def say(self, text: str) -> None:
        """Print a result or an explanation, unless ``quiet`` or ``json`` is set."""
        if not (self.quiet or self.json):
            self._to_out(text)

    def result(self, text: str) -> None:
        """Print the requested output of a command on stdout, even if ``quiet`` or ``json`` is set."""
        self._to_out(text)

    def note(self, note: Note) -> None:
        """Print a note, worded for the command line: a warning as such, an information unless ``quiet``."""
        if note.severity is Severity.WARNING:
            self.warn(str(note))
        elif not self.quiet:
            self._to_err(f"{self.command}: note: {note}")

    def warn(self, text: str) -> None:
        """Print a warning; the command continues."""
        self._to_err(f"{self.command}: warning: {text}")

    def error(self, text: str) -> None:
        """Print the error that ends the command, in one line."""
        self.progress.close()
        self._to_err(f"{self.command}: {' '.join(text.split())}")

    def status(self, text: str) -> None:
        """Print how far the command is, or how it reacts to a signal."""
        self._to_err(f"{self.command}: {text}")

    def _to_out(self, text: str) -> None:
        self.progress.hide()
        self.out = written(self.out, text if text.endswith("\n") else text + "\n")

    def _to_err(self, line: str) -> None:
        self.progress.hide()
        self.err = written(self.err, as_line(line) + "\n")

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """Print and collect the library's logged warnings while the block runs."""
        heard: list[str] = []
        handler = _Listener(self, heard)
        logger = logging.getLogger("ProxyPromptSegmentLib")
        logger.addHandler(handler)
        try:
            yield heard
        finally:
            logger.removeHandler(handler)


def _as_sentence(text: str) -> str:
    """Return a warning with a capital and a stop; the name of a file at its beginning stays as it is."""
    first = text.split(" ", 1)[0].rstrip(":,")
    start = text[:1] if "." in first.rstrip(".") or "/" in first else text[:1].upper()
    return start + text[1:] + ("" if text.endswith(".") else ".")


def nothing_found(output: Path) -> str:
    """Return the last sentence of a command whose result is complete and empty."""
    return f"nothing was found: every segment of {output} is empty (exit code {EXIT_NOTHING_FOUND})."


class _Listener(logging.Handler):
    """A logging handler that prints the library's log records as warnings."""

    def __init__(self, console: Console, heard: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.console, self.heard = console, heard

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record as a warning and keep its text, the same text once."""
        text = _as_sentence(record.getMessage())
        if text in self.heard:  # a file that is read twice
            return
        self.heard.append(text)
        self.console.warn(text)
