"""Output of the command line: results on stdout; warnings, errors and progress on stderr."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from ProxyPromptSegmentLib.commands.progress_bars import ConsoleProgress
from ProxyPromptSegmentLib.errors import EXIT_NOTHING_FOUND
from ProxyPromptSegmentLib.progress import Progress
from ProxyPromptSegmentLib.remedies import Note, Severity

# Texts of files and registries may hold anything; sequences that steer a terminal are shown instead of obeyed.
_HALVES = re.compile("[\udc80-\udcff]")
_CONTROLS = {number: "\ufffd" for number in (*range(32), *range(127, 160)) if chr(number) not in "\n\t"}


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
        """Prefix messages with ``command``; by default, show progress only on a terminal and unless ``quiet``."""
        self.command, self.quiet, self.json = command, quiet, json
        self.out, self.err = out or sys.stdout or no_stream(), err or sys.stderr or no_stream()
        if progress is None:
            progress = not quiet and self.err.isatty()
        self.progress: Progress = ConsoleProgress(self.err, unit) if progress else Progress()

    def say(self, text: str) -> None:
        """Print a result or an explanation, unless ``quiet`` or ``json`` is set."""
        if not (self.quiet or self.json):
            self.out = written(self.out, text + "\n")

    def result(self, text: str) -> None:
        """Print the requested output of a command on stdout, even if ``quiet`` or ``json`` is set."""
        self.out = written(self.out, text if text.endswith("\n") else text + "\n")

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
        self._to_err(f"{self.command}: {' '.join(text.split())}")

    def status(self, text: str) -> None:
        """Print how the command reacts to a signal."""
        self._to_err(f"{self.command}: {text}")

    def counted(self, text: str) -> None:
        """Print a number that grows in place, where the text begins with a carriage return, on stderr."""
        start = "\r" if text.startswith("\r") else ""  # the only one that is obeyed: a name may hold others
        self.err = written(self.err, text.removeprefix(start), start)

    def _to_err(self, line: str) -> None:
        self.progress.close()
        self.err = written(self.err, " ".join(line.splitlines()) + "\n")

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


def no_stream() -> TextIO:
    """Return a stream that leads nowhere, for programs without a terminal."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the program runs


def written(stream: TextIO, text: str, start: str = "") -> TextIO:
    """Write a text at once; return the stream, or one that leads nowhere if the stream's disk is full or it is closed.

    Args:
        stream: The stream.
        text: The text; what would steer a terminal is replaced.
        start: What is written before it, as it is.

    Raises:
        BrokenPipeError: If whoever read it has stopped.
    """
    try:
        stream.write(start + _shown(text).translate(_CONTROLS))
        stream.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError):
        with suppress(OSError, ValueError):  # what waits in its buffer would fail again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return no_stream()
    return stream


def _shown(text: str) -> str:
    """Return a text whose names are read as UTF-8, also where the language of the system has no such letters.

    Python keeps each byte of such a name as a half of a pair of surrogates, which no terminal can show.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if _HALVES.search(text) else text


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
