"""What came of a run: the table, where to look first, undo, and the way to use a correction."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import slicer.util

from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.slice_views import show_slice, slice_on_screen
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say


class ResultSection:
    """Results of the latest run.

    Attributes:
        undone: Whether the latest run was taken back.
    """

    def __init__(self, panel: Any) -> None:
        """Connects the widgets."""
        self.panel, self.ui = panel, panel.ui
        self.undone = False
        self._run: Any = None
        self._shown: Any = ()  # what was never shown
        ui = self.ui
        ui.doubtsList.connect("itemClicked(QListWidgetItem*)", self.on_doubt)
        ui.useCorrectedButton.connect("clicked()", self.on_use_corrected)
        ui.undoButton.connect("clicked()", self.on_undo)
        ui.redoButton.connect("clicked()", self.on_redo)
        ui.editButton.connect("clicked()", self.on_edit)
        ui.tableButton.connect("clicked()", self.on_table)
        ui.recordButton.connect("clicked()", self.on_record)
        say(ui.resultMessageLabel, "")

    @property
    def run(self) -> Any:
        """The latest run, if it has ended and its segmentation is in the scene."""
        run = self.panel.run
        return run if run is not None and run.ended and self.panel.result_there() else None

    @property
    def shown(self) -> bool:
        """Whether there is a result that was not taken back."""
        return self.run is not None and not self.undone

    def refresh(self) -> None:
        """Shows the latest result."""
        run, ui = self.run, self.ui
        if run is not self._run:
            self._run, self.undone = run, False
            say(ui.resultMessageLabel, "")
            if run is not None and run.written:
                ui.resultButton.collapsed = False
        shown = (run, self.undone, run.table, len(run.doubts)) if run is not None else None
        if shown != self._shown:
            self._shown = shown
            self._show_table(run.table if self.shown else None)
            self._show_doubts(run.doubts if self.shown else [], run is not None and run.request.browser is not None)
        self._refresh_buttons(run)

    def _show_table(self, results: Any) -> None:
        table = self.ui.resultsTable
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

    def _show_doubts(self, doubts: list[Any], film: bool) -> None:
        listed = self.ui.doubtsList
        listed.clear()
        line = _("Item {number}, {name}: {reason}") if film else _("Slice {number}, {name}: {reason}")
        for doubt in doubts:
            listed.addItem(line.format(number=doubt.index, name=doubt.name, reason=doubt.reason))
        for widget in (self.ui.doubtsCaption, listed):
            widget.setVisible(bool(doubts))

    def _refresh_buttons(self, run: Any) -> None:
        ui = self.ui
        nothing = "" if run is not None else _("There is no result yet; press Apply.")
        gone = _("The result was undone.") if self.undone else ""
        sequence = _("Not for sequences.") if run is not None and run.request.browser is not None else ""
        allow(ui.undoButton, nothing or gone, _("Takes back everything that the last run wrote."))
        kept = "" if self.undone else _("Nothing was undone.")
        allow(ui.redoButton, nothing or kept or sequence, _("Brings back what was undone."))
        allow(
            ui.useCorrectedButton,
            nothing or gone or sequence,
            _(
                "After you have corrected the slice on screen: takes it as one more example. Corrected slices that "
                "were taken so stay as they are when you segment again."
            ),
        )
        node = self._segmentation()
        empty = gone or ("" if node is not None else _("There is no result yet; press Apply."))
        allow(ui.editButton, empty, _("Opens the result in the Segment Editor."))
        table, record = self._nodes()
        lacking = "" if table is not None else _("There is no table of this result.")
        allow(ui.tableButton, empty or lacking, _("Shows the table of results."))
        lacking = "" if record is not None else _("There is no run record of this result.")
        tip = _("Opens the text that says how the result was made: model, supports, settings, versions.")
        allow(ui.recordButton, empty or lacking, tip)
        ui.show3DButton.enabled = node is not None and not gone
        ui.show3DButton.setSegmentationNode(node)

    def _segmentation(self) -> Any:
        """The result of the latest run, or of the scene that was loaded."""
        return self.run.segmentation if self.run is not None else self.panel.parameters.outputSegmentation

    def _nodes(self) -> tuple[Any, Any]:
        """Table and run record of the result; None where there is none."""
        node = self._segmentation()
        return (None, None) if node is None else (result_nodes.table_of(node), result_nodes.record_of(node))

    # --- what the user does -----------------------------------------------------------------------------------

    def on_doubt(self, item: Any) -> None:
        """Jumps to a slice that should be looked at."""
        number = self.ui.doubtsList.row(item)
        run = self.run
        if run is None or not 0 <= number < len(run.doubts):
            return
        index = run.doubts[number].index
        if run.request.browser is not None:
            run.request.browser.SetSelectedItemNumber(index)
        else:
            show_slice(slicer.mrmlScene, run.request.target, run.job.view.axis, index, center=True)

    def on_undo(self) -> None:
        """Takes the run back."""
        self._take_back(self.run.undo(), True, _("This result cannot be undone any more."))

    def on_redo(self) -> None:
        """Brings it back."""
        self._take_back(self.run.redo(), False, _("This result cannot be brought back any more."))

    def _take_back(self, done: bool, undone: bool, sorry: str) -> None:
        if done:
            self.undone = undone
        say(self.ui.resultMessageLabel, "" if done else sorry)
        self.panel.refresh()

    def on_edit(self) -> None:
        """Opens the Segment Editor with the result and its volume."""
        node, volume = self._segmentation(), self.panel.parameters.targetVolume
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(volume)

    def on_use_corrected(self) -> None:
        """Takes the slice on screen as one more support."""
        run, table = self.run, self.panel.table
        target, axis = run.request.target, run.job.view.axis
        index = slice_on_screen(slicer.mrmlScene, target, axis)
        if index is None:
            say(self.ui.resultMessageLabel, _("No slice view shows a slice of the target; scroll one to the slice."))
            return
        with said_in(self.ui.resultMessageLabel):
            ids = (target.GetID(), run.segmentation.GetID())
            row = next((one for one in table.rows() if (one.volume_id, one.segmentation_id) == ids), None)
            if row is None:
                title = _("{name}, corrected").format(name=target.GetName())
                row = table.add_nodes(target, run.segmentation, list(run.segment_ids.values()), [index], title)
            elif row.slices is None or index not in row.slices:
                row = table.choose(row.key, sorted({*(row.slices or ()), index}))
            self.panel.supports_table.selected = row.key
            say(
                self.ui.resultMessageLabel,
                _(
                    "Slice {number} is a support now and will stay as it is. Press Apply to segment the others anew."
                ).format(number=index),
            )
        self.panel.refresh()

    def on_table(self) -> None:
        """Shows the table of results in a table view."""
        node, _record = self._nodes()
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetActiveTableID(node.GetID())
        slicer.app.applicationLogic().PropagateTableSelection()
        manager = slicer.app.layoutManager()
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)

    def on_record(self) -> None:
        """Opens the run record."""
        slicer.app.openNodeModule(self._nodes()[1])


def _cell(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
