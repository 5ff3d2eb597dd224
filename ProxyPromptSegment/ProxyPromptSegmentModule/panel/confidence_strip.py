"""A strip with a coloured cell for each slice: how sure the model is there, what was changed by hand, what is shown."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import qt

from ProxyPromptSegmentLib.reports.doubts import DOUBTFUL
from ProxyPromptSegmentModule.translation import _

MOST_CELLS = 120
"""Largest number of cells, so that each is wide enough to be hit in a narrow panel; several slices share one then."""

_UNKNOWN, _OWN, _MARK, _BLANK = (225, 225, 225), (77, 140, 230), (20, 20, 20), (255, 255, 255)
_WORST, _DOUBTFUL, _SURE = (200, 40, 40), (250, 200, 60), (60, 160, 80)
_COLORS, _MARKS = 0, 1  # rows


@dataclass(frozen=True, kw_only=True)
class Slices:
    """What the strip shows.

    Attributes:
        count: Number of slices.
        confidence: Confidence of each slice where it is known, 0..1.
        changed: Slices that were changed by hand.
    """

    count: int = 0
    confidence: Mapping[int, float] = field(default_factory=dict)
    changed: Collection[int] = ()


class ConfidenceStrip:
    """A table of two rows: the colours, and below them a mark at the slice on screen."""

    def __init__(self, table: qt.QTableWidget, told: Callable[[int], None]) -> None:
        """Call ``told`` with the slice of a cell that is clicked; of several slices, with the least sure one."""
        self._table, self._told = table, told
        self._slices = Slices()
        self._cells: list[range] = []
        self._marked: int | None = None
        header = table.horizontalHeader()
        header.setMinimumSectionSize(1)
        header.setDefaultSectionSize(1)
        table.setRowCount(2)
        table.setRowHeight(_COLORS, 16)
        table.setRowHeight(_MARKS, 6)
        table.connect("cellClicked(int,int)", self._on_cell)

    def show(self, slices: Slices) -> None:
        """Show these slices; does nothing if they are shown already."""
        if slices == self._slices:
            return
        if slices.count != self._slices.count:
            self._cells, self._marked = _cells(slices.count), None
            self._table.setColumnCount(0)
            self._table.setColumnCount(len(self._cells))
            for column in range(len(self._cells)):
                for row in (_COLORS, _MARKS):
                    self._table.setItem(row, column, qt.QTableWidgetItem(""))
            self._table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        self._slices = slices
        for column, cell in enumerate(self._cells):
            item = self._table.item(_COLORS, column)
            item.setBackground(_brush(_color_of(slices, cell)))
            item.setToolTip(_words_of(slices, cell))

    def mark(self, index: int | None) -> None:
        """Mark the slice on screen."""
        column = next((n for n, cell in enumerate(self._cells) if index is not None and index in cell), None)
        if column == self._marked:
            return
        for place, color in ((self._marked, _BLANK), (column, _MARK)):
            if place is not None:
                self._table.item(_MARKS, place).setBackground(_brush(color))
        self._marked = column

    def _on_cell(self, row: int, column: int) -> None:
        if 0 <= column < len(self._cells):
            self._told(_least(self._slices, self._cells[column]))


def _cells(count: int) -> list[range]:
    """Return the slices of each cell."""
    cells = min(count, MOST_CELLS)
    ends = [round(number * count / cells) for number in range(cells + 1)] if cells else []
    return [range(first, last) for first, last in zip(ends[:-1], ends[1:], strict=True)]


def _least(slices: Slices, cell: range) -> int:
    """Return the least sure slice of a cell; its middle one if none is known."""
    known = [index for index in cell if index in slices.confidence]
    return min(known, key=lambda index: slices.confidence[index]) if known else cell[len(cell) // 2]


def _color_of(slices: Slices, cell: range) -> tuple[int, int, int]:
    values = [slices.confidence[index] for index in cell if index in slices.confidence]
    if values:
        return _ramp(min(values))
    return _OWN if any(index in slices.changed for index in cell) else _UNKNOWN


def _ramp(value: float) -> tuple[int, int, int]:
    """Return red, green, blue of a confidence: red, yellow where a slice stops to be doubtful, green."""
    low, high, share = (
        (_WORST, _DOUBTFUL, value / DOUBTFUL)
        if value < DOUBTFUL
        else (_DOUBTFUL, _SURE, (value - DOUBTFUL) / (1 - DOUBTFUL))
    )
    share = min(max(share, 0.0), 1.0)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue


def _words_of(slices: Slices, cell: range) -> str:
    """Return what a cell shows in words."""
    index = _least(slices, cell)
    if index in slices.confidence:
        return _("Slice {number}: confidence {value}").format(number=index, value=f"{slices.confidence[index]:.2f}")
    if any(one in slices.changed for one in cell):
        return _("Slice {number}: changed by hand").format(number=next(one for one in cell if one in slices.changed))
    return _("Slice {number}: no confidence is known").format(number=index)


def _brush(color: tuple[int, int, int]) -> qt.QBrush:
    return qt.QBrush(qt.QColor(*color))
