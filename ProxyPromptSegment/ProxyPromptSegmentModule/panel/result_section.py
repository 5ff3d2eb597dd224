"""The result section: table, slices to review, undo, and the use of a corrected slice as support."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qt
import slicer
import slicer.util

from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import ResultWidgets
from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.slice_views import layout_manager, show_slice, slice_on_screen
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.reports.results_table import Doubt, Table
    from ProxyPromptSegmentModule.runs.run import Run


class ResultSection(Section):
    """The results of the latest run."""

    def __init__(self, widgets: ResultWidgets, state: PanelState) -> None:
        """Connect the widgets."""
        self._ui, self._state = widgets, state
        self._run: Run | None = None
        self._shown: tuple[object, ...] | None = ()  # what was never shown
        ui = widgets
        ui.doubtsList.connect("itemClicked(QListWidgetItem*)", self.on_doubt)
        ui.useCorrectedButton.connect("clicked()", self.on_use_corrected)
        ui.undoButton.connect("clicked()", self.on_undo)
        ui.redoButton.connect("clicked()", self.on_redo)
        ui.editButton.connect("clicked()", self.on_edit)
        ui.tableButton.connect("clicked()", self.on_table)
        ui.recordButton.connect("clicked()", self.on_record)
        say(ui.resultMessageLabel, "")

    def refresh(self) -> None:
        """Show the latest result."""
        run, ui = self._state.result, self._ui
        if run is not self._run:
            self._run = run
            say(ui.resultMessageLabel, "")
            if run is not None and run.written:
                ui.resultButton.collapsed = False
        shown = (run, run.undone, run.table, len(run.doubts)) if run is not None else None
        if shown != self._shown:
            self._shown = shown
            standing = run is not None and not run.undone
            self._show_table(run.table if run is not None and standing else None)
            doubts = run.doubts if run is not None and standing else []
            self._show_doubts(doubts, run is not None and run.request.browser is not None)
        self._refresh_buttons(run)

    def _show_table(self, results: Table | None) -> None:
        table = self._ui.resultsTable
        table.setVisible(results is not None)
        if results is None:
            return
        brief = results.brief()
        titles = zip(brief.columns, brief.units, strict=True)
        table.setRowCount(len(brief.rows))
        table.setColumnCount(len(brief.columns))
        table.setHorizontalHeaderLabels([f"{name} [{unit}]" if unit else name for name, unit in titles])
        for number, row in enumerate(brief.rows):
            for place, value in enumerate(row):
                table.setItem(number, place, qt.QTableWidgetItem(_cell(value)))
        table.resizeColumnsToContents()

    def _show_doubts(self, doubts: list[Doubt], film: bool) -> None:
        listed = self._ui.doubtsList
        listed.clear()
        line = _("Item {number}, {name}: {reason}") if film else _("Slice {number}, {name}: {reason}")
        for doubt in doubts:
            listed.addItem(line.format(number=doubt.where, name=doubt.name, reason=doubt.reason))
        for widget in (self._ui.doubtsCaption, listed):
            widget.setVisible(bool(doubts))

    def _refresh_buttons(self, run: Run | None) -> None:
        ui = self._ui
        nothing = "" if run is not None else _("There is no result yet; press Apply.")
        undone = run is not None and run.undone
        gone = _("The result was undone.") if undone else ""
        sequence = _("Not available for sequences.") if run is not None and run.request.browser is not None else ""
        allow(ui.undoButton, nothing or gone, _("Reverts everything that the last run wrote."))
        kept = "" if undone else _("Nothing was undone.")
        allow(ui.redoButton, nothing or kept or sequence, _("Restores what was undone."))
        allow(
            ui.useCorrectedButton,
            nothing or gone or sequence,
            _(
                "Adds the slice on screen as another support after you have corrected it. Slices added like this stay "
                "as they are when you segment again."
            ),
        )
        node = self._segmentation()
        empty = gone or ("" if node is not None else _("There is no result yet; press Apply."))
        allow(ui.editButton, empty, _("Opens the result in the Segment Editor."))
        table, record = self._nodes()
        lacking = "" if table is not None else _("This result has no table.")
        allow(ui.tableButton, empty or lacking, _("Shows the table of results."))
        lacking = "" if record is not None else _("This result has no run record.")
        tip = _("Shows the text that documents how the result was made: model, supports, settings, versions.")
        allow(ui.recordButton, empty or lacking, tip)
        ui.show3DButton.enabled = node is not None and not gone
        ui.show3DButton.setSegmentationNode(node)

    def _segmentation(self) -> slicer.vtkMRMLSegmentationNode | None:
        """Return the segmentation of the latest run, or of a loaded scene."""
        run = self._state.result
        return run.segmentation if run is not None else self._state.parameters.outputSegmentation

    def _nodes(self) -> tuple[slicer.vtkMRMLTableNode | None, slicer.vtkMRMLTextNode | None]:
        """Return table and run record of the result; None for a missing one."""
        node = self._segmentation()
        return (None, None) if node is None else (result_nodes.table_of(node), result_nodes.record_of(node))

    # --- what the user does -----------------------------------------------------------------------------------

    def on_doubt(self, item: qt.QListWidgetItem) -> None:
        """Jump to a slice that should be reviewed."""
        number = self._ui.doubtsList.row(item)
        run = self._state.result
        if run is None or not 0 <= number < len(run.doubts):
            return
        index = run.doubts[number].index
        if run.request.browser is not None:
            run.request.browser.SetSelectedItemNumber(index)
        elif run.job is not None:
            show_slice(slicer.mrmlScene, run.request.target, run.job.view.axis, index, center=True)

    def on_undo(self) -> None:
        """Undo the run."""
        run = self._state.result
        self._said(run is not None and run.undo(), _("This result cannot be undone any more."))

    def on_redo(self) -> None:
        """Redo the run."""
        run = self._state.result
        self._said(run is not None and run.redo(), _("This result cannot be restored any more."))

    def _said(self, done: bool, sorry: str) -> None:
        say(self._ui.resultMessageLabel, "" if done else sorry)
        self._state.changed.emit()

    def on_edit(self) -> None:
        """Open the Segment Editor with the result and its volume."""
        node, volume = self._segmentation(), self._state.parameters.targetVolume
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(volume)

    def on_use_corrected(self) -> None:
        """Add the slice on screen as another support."""
        run, table = self._state.result, self._state.table
        if run is None or run.job is None or run.segmentation is None or table is None:
            return
        target, axis = run.request.target, run.job.view.axis
        index = slice_on_screen(slicer.mrmlScene, target, axis)
        if index is None:
            say(
                self._ui.resultMessageLabel,
                _("No slice view shows a slice of the target; turn one to its plane and scroll to the slice."),
            )
            return
        with said_in(self._ui.resultMessageLabel):
            ids = (target.GetID(), run.segmentation.GetID())
            row = next((one for one in table.rows() if (one.volume_id, one.segmentation_id) == ids), None)
            if row is None:
                title = _("{name}, corrected").format(name=target.GetName())
                row = table.add_nodes(target, run.segmentation, list(run.segment_ids.values()), [index], title)
            elif row.slices is None or index not in row.slices:
                row = table.choose(row.key, sorted({*(row.slices or ()), index}))
            self._state.selected = row.key
            say(
                self._ui.resultMessageLabel,
                _(
                    "Slice {number} is now a support and will stay as it is. Press Apply to segment the others again."
                ).format(number=index),
            )
        self._state.changed.emit()

    def on_table(self) -> None:
        """Show the table of results in a table view."""
        node, _record = self._nodes()
        manager = layout_manager()
        if node is None or manager is None:
            return
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetActiveTableID(node.GetID())
        slicer.app.applicationLogic().PropagateTableSelection()
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)

    def on_record(self) -> None:
        """Show the run record."""
        _table, node = self._nodes()
        if node is not None:
            slicer.app.openNodeModule(node)


def _cell(value: object) -> str:
    """Format a value of the table."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
