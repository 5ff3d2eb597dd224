"""What the command line says and where: results on stdout; warnings, errors and progress on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ProxyPromptSegmentLib.commands.progress_bars import ConsoleProgress
from ProxyPromptSegmentLib.progress import Progress


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
