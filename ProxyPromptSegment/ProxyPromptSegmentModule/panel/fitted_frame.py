"""A frame that is as high as what it contains needs at its width, whatever the layouts around it remember.

Slicer takes a module's panel out of a layout when the module is left, and loses the layout's entry for it. Qt still
reports changes to that entry, and not to the one of the next visit, which therefore keeps the height that the panel had
at a width: sections that were opened after a visit to another module were squeezed. A frame without a layout has no
height that depends on its width, but a least height, which no layout remembers.
"""

from __future__ import annotations

import qt


class FittedFrame(qt.QObject):
    """A frame with a column of widgets.

    Attributes:
        frame: The widget to show.
        layout: The column.
    """

    def __init__(self) -> None:
        """Make an empty frame."""
        qt.QObject.__init__(self)
        self.frame = qt.QWidget()
        self._column = qt.QWidget(self.frame)
        self.layout = qt.QVBoxLayout(self._column)
        self.layout.setContentsMargins(0, 0, 0, 0)
        self._kinds = (qt.QEvent.Resize, qt.QEvent.LayoutRequest, qt.QEvent.Show)
        self.frame.installEventFilter(self)

    def eventFilter(self, watched: qt.QObject, event: qt.QEvent) -> bool:  # noqa: N802
        """Fit the column whenever the frame has another width, or a widget in the column needs another height."""
        if event.type() in self._kinds:
            self.fit()
        return False

    def fit(self) -> None:
        """Give the frame the height that the column needs, and the column the whole frame."""
        hint, width = self._column.sizeHint, self.frame.width
        height = self._column.heightForWidth(width) if self._column.hasHeightForWidth() else hint.height()
        self.frame.setMinimumSize(hint.width(), height)
        self._column.resize(width, max(height, self.frame.height))

    def close(self) -> None:
        """Stop fitting."""
        self.frame.removeEventFilter(self)
