"""Output of the command line: results on stdout; warnings, errors and progress on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ProxyPromptSegmentLib.commands.progress_bars import ConsoleProgress
from ProxyPromptSegmentLib.errors import EXIT_NOTHING_FOUND
from ProxyPromptSegmentLib.progress import Progress


class Console:
    """The output of one command.

    Attributes:
        quiet: Whether only warnings and errors are printed.
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
        """Prefix messages with ``command``; by default, show progress only on a terminal and unless ``quiet``."""
        self.command, self.quiet, self.json = command, quiet, json
        self.out, self.err = out or sys.stdout, err or sys.stderr
        if progress is None:
            progress = not quiet and self.err.isatty()
        self.progress: Progress = ConsoleProgress(self.err, unit) if progress else Progress()

    def say(self, text: str) -> None:
        """Print a result or an explanation, unless ``quiet`` or ``json`` is set."""
        if not (self.quiet or self.json):
            self.out.write(text + "\n")
            self.out.flush()

    def result(self, text: str) -> None:
        """Print the requested output of a command on stdout, even if ``quiet`` or ``json`` is set."""
        self.out.write(text if text.endswith("\n") else text + "\n")
        self.out.flush()

    def warn(self, text: str) -> None:
        """Print a warning; the command continues."""
        self._to_err(f"{self.command}: warning: {text}")

    def error(self, text: str) -> None:
        """Print the error that ends the command, in one line."""
        self._to_err(f"{self.command}: {' '.join(text.split())}")

    def status(self, text: str) -> None:
        """Print how the command reacts to a signal."""
        self._to_err(f"{self.command}: {text}")

    def _to_err(self, line: str) -> None:
        self.progress.close()
        self.err.write(line + "\n")
        self.err.flush()

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


def nothing_found(output: Path) -> str:
    """Return the last sentence of a command whose result is complete and empty."""
    return f"nothing was found: every segment of {output} is empty (exit code {EXIT_NOTHING_FOUND})."


class _Listener(logging.Handler):
    """A logging handler that prints the library's log records as warnings."""

    def __init__(self, console: Console, heard: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.console, self.heard = console, heard

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record as a warning and keep its text."""
        text = record.getMessage()
        text = text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
        self.heard.append(text)
        self.console.warn(text)
