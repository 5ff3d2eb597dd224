"""The table of results per frame, a CSV file that is complete up to the last frame even if interrupted."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from ProxyPromptSegmentLib.imaging.output_files import check_output_path, safe_output
from ProxyPromptSegmentLib.inference.results import FrameResult

STATES = ("ok", "bad", "disagrees", "not done")


DROPPED = "the memory was dropped; predicted from the proxy prompt alone"


class TrackTable:
    """A CSV file with one row per frame and object, written during the run.

    Rows are written to a temporary file, each immediately and in full; it is renamed when the block ends or is
    interrupted by Ctrl-C. After any other exception it is removed, and an existing table is kept.

    Example::

        with TrackTable(path, source.spacing_mm if source.has_spacing else None) as table:
            table.add(0, "thyroid", area_px=812, time_s=0.0, confidence=0.93)
    """

    COLUMNS = ("frame", "time_s", "object", "area_px", "area_mm2", "confidence", "agreement", "state", "note")

    def __init__(
        self, path: Path | str, spacing_mm: tuple[float, float] | None = None, *, replace: bool = True
    ) -> None:
        """Set the output path and the pixel size, None if not known, and whether an existing file may be replaced."""
        self._replace = replace
        self.path = Path(path)
        self._pixel_mm2 = None if spacing_mm is None else spacing_mm[0] * spacing_mm[1]
        self._stack = ExitStack()
        self._file: IO[str] | None = None

    def __enter__(self) -> TrackTable:
        """Create the file and write the header row.

        Raises:
            OutputError: If it cannot be written.
        """
        check_output_path(self.path, (".csv",))
        partial = self._stack.enter_context(safe_output(self.path, self._replace))
        with self._failures():
            self._file = self._stack.enter_context(partial.open("w", encoding="utf-8", newline=""))
            self._write(self.COLUMNS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Move the file into place, or remove it."""
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        if kind is None or stopped:
            self._stack.close()
        else:
            self._stack.__exit__(kind, error, trace)

    def add(
        self,
        frame: int,
        name: str,
        area_px: int | None,
        time_s: float | None = None,
        confidence: float | None = None,
        agreement: float | None = None,
        state: str = "ok",
        note: str = "",
    ) -> None:
        """Write a row.

        Args:
            frame: Index of the frame in its source.
            name: Name of the object.
            area_px: Number of pixels inside; None if nothing was computed.
            time_s: Presentation time of the frame in seconds.
            confidence: Confidence 0..1.
            agreement: Agreement 0..1 between proxy prompt and memory.
            state: One of `STATES`.
            note: Further information, e.g. why a frame is bad.

        Raises:
            OutputError: If the disk is full.
        """
        if state not in STATES:
            raise ValueError(f"the state is {state!r}; it must be one of {STATES}")
        area = None if area_px is None or self._pixel_mm2 is None else area_px * self._pixel_mm2
        with self._failures():
            self._write(
                (
                    str(int(frame)),
                    _number(time_s, 6),
                    name,
                    _number(area_px, 0),
                    _number(area, 3),
                    _number(confidence, 4),
                    _number(agreement, 4),
                    state,
                    " ".join(note.split()),
                )
            )

    def _write(self, values: Sequence[str]) -> None:
        """Write one row in a single call and flush it."""
        assert self._file is not None
        line = StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        self._file.write(line.getvalue())
        self._file.flush()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Report a failed write through `safe_output`, which also removes the file."""
        try:
            yield
        except OSError as error:
            self._file = None
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise


def write_rows(
    table: TrackTable,
    objects: Sequence[str],
    index: int,
    time_s: float | None,
    found: FrameResult | None,
    reason: str = "",
) -> None:
    """Write the results of a frame into the table, one row per object.

    Args:
        table: An open table.
        objects: Names of the objects.
        index: Index of the frame.
        time_s: Presentation time of the frame in seconds.
        found: The results of the frame; None if it was skipped.
        reason: Why it was skipped.
    """
    for n, name in enumerate(objects):
        if found is None:
            table.add(index, name, None, time_s, state="bad", note=reason)
            continue
        table.add(
            index,
            name,
            int(found.area_px[n]),
            time_s,
            float(found.confidence[n]),
            float(found.agreement[n]),
            "disagrees" if found.disagrees[n] else "ok",
            DROPPED if found.reanchored[n] else "",
        )


def _number(value: float | None, digits: int) -> str:
    """Return a number without trailing zeros; empty for None and NaN."""
    if value is None or not np.isfinite(value):
        return ""
    text = f"{float(value):.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
