"""Progress bars on a terminal, drawn by tqdm: slices or frames, frames of unknown number, bytes."""

from __future__ import annotations

import os
from typing import Any, TextIO

from tqdm import tqdm
from tqdm.utils import disp_trim

from ProxyPromptSegmentLib.commands.streams import as_line
from ProxyPromptSegmentLib.inference.tiling.plan import PREPARING, SEGMENTING
from ProxyPromptSegmentLib.progress import Progress
from ProxyPromptSegmentLib.wording import duration, size_text

WIDTH = 24
REDRAW_SECONDS = 0.1
AT_ONCE_SECONDS = 0.3
"""Steps reported so soon after the start of a stage were done by an earlier run, and say nothing of the speed."""

BYTE = "byte"


class _Bar(tqdm):  # type: ignore[type-arg]
    """A tqdm bar with the extra format fields ``{done}``, ``{of}``, ``{left}``, ``{speed}`` and ``{each}``."""

    monitor_interval = 0  # tqdm's monitoring thread is not needed
    last_print_t: float

    def __str__(self) -> str:
        """Return the line, cut to the width of the terminal, where a longer one would begin a new line each time."""
        line = super().__str__()
        try:
            columns = os.get_terminal_size(self.fp.fileno()).columns
        except (OSError, ValueError, AttributeError):
            columns = 0
        return disp_trim(line, columns - 1) if columns > 1 else line

    @property
    def at_once(self) -> bool:
        """Whether the stage has only begun, see `AT_ONCE_SECONDS`."""
        return bool(self._time() - self.start_t < AT_ONCE_SECONDS)

    def begun_at(self, n: int) -> bool:
        """Count steps of an earlier run; return whether the line was drawn."""
        self.n += n
        self.initial = self.last_print_n = self.n
        if self._time() - self.last_print_t < self.mininterval:
            return False
        self.refresh()
        self.last_print_t = self._time()
        return True

    def wipe(self) -> None:
        """Remove the line from the terminal until it is drawn again."""
        self.display("")
        self.fp.write("\r")
        self.fp.flush()

    @property
    def format_dict(self) -> dict[str, Any]:
        """Return the fields that a format may use."""
        facts = super().format_dict
        elapsed, made = facts["elapsed"], facts["n"] - facts["initial"]
        rate = facts["rate"] or (made / elapsed if elapsed > 0 else 0.0)
        total = facts["total"]
        left = f", {duration((total - facts['n']) / rate)} left" if total and rate and 0 < made < total else ""
        bytes_of = {"done": size_text(int(facts["n"])), "of": size_text(int(total or 0))}
        speed = f", {size_text(int(rate))}/s" if rate else ""
        each = f", {rate:.1f} per second" if rate else ""
        return {**facts, **bytes_of, "left": left, "speed": speed, "each": each}


def unit_of(what: str, unit: str) -> str:
    """Return the name of a step of the stage ``what``: a tile where slices are cut into such, otherwise ``unit``."""
    return "tile" if what in (PREPARING, SEGMENTING) else unit


class ConsoleProgress(Progress):
    """A progress line that is redrawn in place: stage, bar, slice k of n, time left.

    Attributes:
        what: The stage.
        total: Number of its steps; 0 if unknown.
        done: Number of finished steps.
    """

    def __init__(self, stream: TextIO, unit: str = "slice") -> None:
        """Draw on ``stream``; ``unit`` names a step, see `unit_of`."""
        self.stream, self.unit = stream, unit
        self.total, self.done, self.what = 0, 0, ""
        self._bar: _Bar | None = None

    def start(self, total: int, what: str) -> None:
        """Begin a stage."""
        self.close()
        self.total, self.done, self.what = total, 0, what
        self._bar = _Bar(
            total=total or None,
            desc=as_line(what),
            file=self.stream,
            leave=False,
            ascii=".#",
            mininterval=REDRAW_SECONDS,
            bar_format=self._format(total),
        )

    def step(self, n: int = 1, note: str = "") -> None:
        """Count steps; draws at most ten times a second, and the last step in any case."""
        self.done += n
        if self._bar is None:
            return
        if note:
            self._bar.set_postfix_str(as_line(note), refresh=False)
        drawn = self._bar.begun_at(n) if self._bar.at_once else self._bar.update(n)
        if not drawn and self.total and self.done >= self.total:
            self._bar.refresh()

    def hide(self) -> None:
        """Remove the line until it is drawn again."""
        if self._bar is not None:
            self._bar.wipe()

    def close(self) -> None:
        """Remove the line; the stage is over."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _format(self, total: int) -> str:
        """Return tqdm's format of a stage; a single step, such as loading a model, has no counter."""
        unit = unit_of(self.what, self.unit)
        if total == 0:
            return f"{{desc}}: {unit} {{n_fmt}}{{each}}{{postfix}}"
        if total == 1:
            return "{desc}"
        return f"{{desc}} [{{bar:{WIDTH}}}] {unit} {{n_fmt}} of {{total_fmt}}{{left}}{{postfix}}"


class ByteProgress(ConsoleProgress):
    """A progress line of a download: bytes, speed and time left."""

    def _format(self, total: int) -> str:
        """Return tqdm's format of a download."""
        return f"{{desc}} [{{bar:{WIDTH}}}] {{done}} of {{of}}{{speed}}{{left}}"
