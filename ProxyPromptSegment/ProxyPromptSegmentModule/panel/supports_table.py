"""The table of supports in the panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import qt
import slicer

from ProxyPromptSegmentModule.panel.icons import icon, swatches
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import SupportWidgets
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.runs.request import Settings
from ProxyPromptSegmentModule.scene.slice_views import show_case, show_slice
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, ranges, said_in, say

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.review.findings import Finding
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentModule.runs.questions import CheckAnswer
    from ProxyPromptSegmentModule.supports.saved import SupportRow
    from ProxyPromptSegmentModule.supports.table import SupportTable

USE, TITLE, OBJECTS, SLICES, PROBLEM = range(5)
_ROW_HEIGHT = 44
_LEVELS = {"error": "⛔", "warning": "⚠", "info": "ℹ"}


class Checks(Protocol):
    """The part of `SegmentationLogic` that checks supports."""

    def check(
        self,
        cases: Sequence[SupportCase],
        on_answer: CheckAnswer,
        leave_one_out: bool = False,
        settings: Settings | None = None,
    ) -> None:
        """Check supports."""


class SupportsTable(Section):
    """The table of supports and the buttons below it."""

    def __init__(
        self, widgets: SupportWidgets, state: PanelState, settings: Callable[[], Settings], logic: Checks
    ) -> None:
        """Connect the widgets."""
        self._ui, self._state, self._settings, self._logic = widgets, state, settings, logic
        self._rows: list[SupportRow] = []
        self._pictures: dict[str, tuple[int, qt.QIcon]] = {}
        self._checking = False
        table = self._ui.supportTable
        header = table.horizontalHeader()
        for column in (USE, SLICES, PROBLEM):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        for column in (TITLE, OBJECTS):
            header.setSectionResizeMode(column, qt.QHeaderView.Stretch)
        table.connect("cellChanged(int,int)", self.on_cell)
        table.connect("cellDoubleClicked(int,int)", self.on_double_click)
        table.connect("itemSelectionChanged()", self.on_selection)
        self._ui.removeSupportButton.connect("clicked()", self.on_remove)
        self._ui.showSupportButton.connect("clicked()", self.on_show)
        self._ui.checkSupportsButton.connect("clicked()", self.on_check)

    def refresh(self) -> None:
        """Show the rows; items are changed, not replaced, because Qt may be emitting a signal about one of them."""
        rows = self._state.support_rows()
        table = self._ui.supportTable
        table.setVisible(bool(rows))
        if rows != self._rows:
            self._rows = rows
            table.setRowCount(len(rows))
            for number, row in enumerate(rows):
                self._fill(number, row)
            keys = [row.key for row in rows]
            self._pictures = {key: picture for key, picture in self._pictures.items() if key in keys}
            if self._state.selected not in keys:
                self._state.selected = keys[-1] if keys else ""
            if self._state.selected:
                table.selectRow(keys.index(self._state.selected))
        self._refresh_buttons()

    def _fill(self, number: int, row: SupportRow) -> None:
        use, title = self._item(number, USE), self._item(number, TITLE)
        use.setCheckState(qt.Qt.Checked if row.used else qt.Qt.Unchecked)
        if self._state.table is not None:
            use.setIcon(self._picture(row, self._state.table))
        use.setToolTip(_("Ticked supports are used."))
        title.setText(row.title)
        title.setToolTip(
            _("{title}, {kind}. Double-click to rename it.").format(
                title=row.title, kind=_("a case of the library") if row.library_id else _("nodes of this scene")
            )
        )
        objects = self._item(number, OBJECTS)  # an item, so that it follows selections and dark themes
        objects.setText("\n".join(one.name for one in row.objects))
        objects.setIcon(swatches([one.color_rgb for one in row.objects]))
        self._item(number, SLICES).setText(self._slices_text(row))
        self._item(number, SLICES).setToolTip(
            _("Annotated: {slices} (counted from 0 along {axis}).").format(slices=ranges(row.annotated), axis=row.axis)
        )
        problem = self._item(number, PROBLEM)
        problem.setText(_LEVELS["warning"] if row.problem else _LEVELS["info"] if row.notes else "")
        problem.setToolTip("\n".join([row.problem] if row.problem else row.notes))
        self._ui.supportTable.setRowHeight(number, max(_ROW_HEIGHT, 18 * len(row.objects) + 6))

    def _item(self, number: int, column: int) -> qt.QTableWidgetItem:
        item: qt.QTableWidgetItem | None = self._ui.supportTable.item(number, column)
        if item is None:
            item = qt.QTableWidgetItem("")
            self._ui.supportTable.setItem(number, column, item)
        return item

    def _slices_text(self, row: SupportRow) -> str:
        if row.slices is None:
            return _("auto (of {count})").format(count=len(row.annotated))
        return str(len(row.slices))

    def _picture(self, row: SupportRow, table: SupportTable) -> qt.QIcon:
        """Return the thumbnail; it is drawn again only after a change."""
        known = self._pictures.get(row.key)
        if known is None or known[0] != row.picture:
            known = (row.picture, icon(table.thumbnail(row.key, 96)))
            self._pictures[row.key] = known
        return known[1]

    def _refresh_buttons(self) -> None:
        ui, row = self._ui, self._selected_row()
        nothing = _("There is no support yet.") if not self._rows else _("Select a support in the table.")
        allow(
            ui.removeSupportButton,
            "" if row is not None else nothing,
            _("Removes the selected support from the table; its image and annotation stay."),
        )
        gone = _("This case lies in the library, not in the scene.") if row is not None and not row.volume_id else ""
        allow(
            ui.showSupportButton,
            gone if row is not None else nothing,
            _("Shows the selected support in the slice views."),
        )
        unready = "" if self._state.used_rows() else _("Add a support and tick it first.")
        busy = _("The supports are being checked.") if self._checking else ""
        reason = unready or busy or self._state.obstacle or self._state.teaching
        allow(ui.checkSupportsButton, reason, _("Reports problems with the ticked supports."))

    def _selected_row(self) -> SupportRow | None:
        """Return the selected row, or None."""
        return next((row for row in self._rows if row.key == self._state.selected), None)

    # --- what the user does -----------------------------------------------------------------------------------

    def on_cell(self, number: int, column: int) -> None:
        """Store a tick or a title that was changed."""
        if not self._state.listening or number >= len(self._rows) or column not in (USE, TITLE):
            return
        row, item, supports = self._rows[number], self._ui.supportTable.item(number, column), self._state.table
        if supports is None:
            return
        if column == TITLE and item.text() != row.title:
            supports.rename(row.key, item.text().strip())
        elif column == USE and (item.checkState() == qt.Qt.Checked) != row.used:
            supports.use(row.key, not row.used)
            self._state.choice_changed.emit()

    def on_double_click(self, number: int, column: int) -> None:
        """Edit the title, or show the case if another cell was clicked."""
        if column == TITLE:
            self._ui.supportTable.editItem(self._ui.supportTable.item(number, TITLE))
        else:
            self.on_show()

    def on_selection(self) -> None:
        """Store the selected row."""
        number = self._ui.supportTable.currentRow()
        if self._state.listening and 0 <= number < len(self._rows):
            self._state.selected = self._rows[number].key
            with self._state.quiet():
                self._refresh_buttons()
                self._state.support_selected.emit()

    def on_remove(self) -> None:
        """Remove the selected row."""
        if self._selected_row() is not None and self._state.table is not None:
            self._state.table.remove(self._state.selected)
            self._state.changed.emit()
            self._state.choice_changed.emit()

    def on_show(self) -> None:
        """Show the selected support's image at its middle annotated slice."""
        row, scene = self._selected_row(), slicer.mrmlScene
        volume: slicer.vtkMRMLVolumeNode | None = None
        if row is not None and row.volume_id:
            volume = scene.GetNodeByID(row.volume_id)
        if row is None or volume is None:
            return
        with said_in(self._ui.supportMessageLabel):
            show_case(scene, volume, self._rows)
            shown = row.slices or row.annotated
            if shown:
                show_slice(scene, volume, row.axis, shown[len(shown) // 2], center=True)

    def on_check(self) -> None:
        """Start the check of the supports; `on_findings` receives the answer."""
        self._checking = False
        with said_in(self._ui.supportMessageLabel):
            cases = self._state.table.cases() if self._state.table is not None else []
            say(self._ui.supportMessageLabel, _("Checking the supports…"))
            trial = bool(self._ui.checkTrialBox.checked)
            self._logic.check(cases, self.on_findings, leave_one_out=trial, settings=self._settings())
            self._checking = True  # not where the question could not be asked
        self._state.changed.emit()

    def on_findings(self, findings: list[Finding], error: str) -> None:
        """Show the findings of the check."""
        self._checking = False
        lines = [f"{_LEVELS.get(one.level, '')} {worded(one.note)}" for one in findings]
        say(self._ui.supportMessageLabel, error or "\n".join(lines) or _("No problems were found with these supports."))
        self._state.changed.emit()
