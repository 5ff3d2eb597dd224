"""Writing text to the streams of a process: whatever a text holds, and whatever has become of the stream."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TextIO

# Texts of files and registries may hold anything; sequences that steer a terminal are shown instead of obeyed.
_HALVES = re.compile("[\udc80-\udcff]")
_CONTROLS = {number: "\ufffd" for number in (*range(32), *range(127, 160)) if chr(number) not in "\n\t"}


def no_stream() -> TextIO:
    """Return a stream that leads nowhere, for programs without a terminal."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the program runs


def written(stream: TextIO, text: str) -> TextIO:
    """Write a text at once; return the stream, or one that leads nowhere if the stream's disk is full or it is closed.

    Args:
        stream: The stream.
        text: The text; what would steer a terminal is replaced.

    Raises:
        BrokenPipeError: If whoever read it has stopped.
    """
    try:
        stream.write(as_shown(text))
        stream.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError):
        with suppress(OSError, ValueError):  # what waits in its buffer would fail again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return no_stream()
    return stream


def as_shown(text: str) -> str:
    """Return a text without what would steer a terminal; line breaks and tabs stay.

    Names are read as UTF-8, also where the language of the system has no such letters: there Python keeps each byte of
    such a name as a half of a pair of surrogates, which no terminal can show.
    """
    if _HALVES.search(text):
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text.translate(_CONTROLS)


def as_line(text: str) -> str:
    """Return a text as `as_shown` does, in one line."""
    return as_shown(" ".join(text.splitlines()))
