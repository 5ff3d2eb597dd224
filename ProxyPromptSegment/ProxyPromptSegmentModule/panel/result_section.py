"""The result section: table, slices to review, undo, and the use of a corrected slice as support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import qt
import slicer
import slicer.util

from ProxyPromptSegmentLib.weights.earlier import note_on
from ProxyPromptSegmentModule.models.rows import known_entries
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.shortcuts import Key
from ProxyPromptSegmentModule.panel.shown_result import ShownResult
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import ResultWidgets
from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.last_view import LastView
from ProxyPromptSegmentModule.scene.made_with import earlier_models, made_with
from ProxyPromptSegmentModule.scene.segment_state import accept_slice
from ProxyPromptSegmentModule.scene.slice_views import layout_manager, named_interactors, show_slice
from ProxyPromptSegmentModule.states import PromptBy
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.reports.doubts import Doubt
    from ProxyPromptSegmentLib.reports.results_table import Table
    from ProxyPromptSegmentModule.runs.run import Run
    from ProxyPromptSegmentModule.scene.facts import ResultNow
    from ProxyPromptSegmentModule.supports.saved import SupportRow
    from ProxyPromptSegmentModule.supports.table import SupportTable


class ResultSection(Section):
    """The result of the selected target, as its segments are now."""

    def __init__(self, widgets: ResultWidgets, state: PanelState, found: ShownResult) -> None:
        """Connect the widgets.

        Args:
            widgets: The widgets.
            state: The shared state.
            found: The result of the selected target.
        """
        self._ui, self._state, self._found = widgets, state, found
        self._result: tuple[object, ...] = ()
        self._shown: object = ()  # what was never shown
        self._now: ResultNow | None = None
        self._layout: int | None = None
        self._asked: tuple[object, ...] = ()
        self._record: object = ()  # whose model is shown
        self._views = LastView(slicer.mrmlScene, named_interactors)
        ui = widgets
        ui.doubtsList.connect("itemClicked(QListWidgetItem*)", self.on_doubt)
        ui.useCorrectedButton.connect("clicked()", self.on_use_corrected)
        ui.undoButton.connect("clicked()", self.on_undo)
        ui.redoButton.connect("clicked()", self.on_redo)
        ui.editButton.connect("clicked()", self.on_edit)
        ui.tableButton.connect("clicked()", self.on_table)
        ui.recordButton.connect("clicked()", self.on_record)
        say(ui.resultMessageLabel, "")

    def close(self) -> None:
        """Stop observing the views."""
        self._views.stop()

    def refresh(self) -> None:
        """Show the result of the selected target."""
        run, ui, node = self._state.result, self._ui, self._state.segmentation
        target = self._state.parameters.targetVolume
        self._views.look_again()
        if self._result != (target, node, run):
            self._result, self._asked = (target, node, run), ()
            say(ui.resultMessageLabel, "")
            if run is not None and run.written:
                ui.resultButton.collapsed = False
        named = target is not None and node is not None
        title = _("Results of {image}").format(image=target.GetName()) if named and target else _("Results")
        ui.resultButton.text = title
        film = run is not None and run.request.browser is not None
        undone = run is not None and run.undone
        self._now = self._found.now()
        table, doubts = (self._now.table, self._now.doubts) if self._now else (None, ())
        if run is not None and film and not undone:
            table, doubts = run.table, tuple(run.doubts)
        if (table, doubts) != self._shown:
            self._shown = (table, doubts)
            self._show_table(table)
            self._show_doubts(doubts, film, table is not None)
        self._refresh_buttons(run, node)
        self._show_model()

    def _show_model(self) -> None:
        """Show which model made the result, and whether it can be had again."""
        node, target = self._state.segmentation, self._state.parameters.targetVolume
        _table, record = self._nodes() if self._now is not None else (None, None)
        stamp = (record.GetID(), record.GetText()) if record is not None else None
        if stamp == self._record:
            return
        self._record = stamp
        made = made_with(node, target) if record is not None and node is not None and target is not None else None
        if made is None or node is None or target is None:
            say(self._ui.madeWithLabel, "")
            return
        lines = [_("Made with {model}.").format(model=made.title), note_on(made, known_entries())]
        for model, slices in earlier_models(node, target):
            lines.append(_("Slices {slices}: made with {model}.").format(slices=slices, model=model.title))
            lines.append(note_on(model, known_entries()))
        say(self._ui.madeWithLabel, "\n".join(line for line in lines if line))

    def _show_table(self, results: Table | None) -> None:
        table = self._ui.resultsTable
        table.setVisible(results is not None)
        if results is None:
            return
        brief = results.brief()
        titles = zip(brief.columns, brief.units, strict=True)
        table.setRowCount(len(brief.rows))
        table.setColumnCount(len(brief.columns))
        shown = [f"{name} [{unit}]" if unit else name for name, unit in titles]
        table.setHorizontalHeaderLabels([title.replace(" ", "\n", 1) for title in shown])  # all fit into the panel
        for number, row in enumerate(brief.rows):
            for place, value in enumerate(row):
                table.setItem(number, place, qt.QTableWidgetItem(_cell(value)))
        table.resizeColumnsToContents()

    def _show_doubts(self, doubts: Sequence[Doubt], film: bool, shown: bool) -> None:
        listed = self._ui.doubtsList
        listed.clear()
        line = _("Item {number}, {name}: {reason}") if film else _("Slice {number}, {name}: {reason}")
        for doubt in doubts:
            listed.addItem(line.format(number=doubt.where, name=doubt.name, reason=doubt.reason))
        listed.setVisible(bool(doubts))
        caption = _("Review these slices first (least sure):") if doubts else _("No slice stands out; check them all.")
        self._ui.doubtsCaption.text = caption
        self._ui.doubtsCaption.setVisible(shown)

    def _refresh_buttons(self, run: Run | None, node: slicer.vtkMRMLSegmentationNode | None) -> None:
        ui = self._ui
        nothing = "" if node is not None else _("There is no result yet; press Apply.")
        undone = run is not None and run.undone
        gone = _("The result was undone.") if undone else ""
        empty = nothing or (gone if self._now is None else "")
        unknown = "" if run is not None else _("The run that made this result is not known any more.")
        sequence = _("Not available for sequences.") if run is not None and run.request.browser is not None else ""
        film = run is not None and run.request.browser is not None and not undone
        empty = "" if film else empty
        tip = _("Reverts what the last run wrote; keeps later changes ({key}).").format(key=Key.UNDO)
        allow(ui.undoButton, nothing or unknown or gone, tip)
        kept = "" if undone else _("Nothing was undone.")
        allow(ui.redoButton, nothing or unknown or kept or sequence, _("Restores what was undone."))
        ui.useCorrectedButton.setVisible(self._state.prompt_by == PromptBy.SUPPORT)
        allow(
            ui.useCorrectedButton,
            empty or sequence,
            _(
                "Adds the slice on screen as another support after you have corrected it. Slices added like this stay "
                "as they are when you segment again."
            ),
        )
        allow(ui.editButton, empty, _("Opens the result in the Segment Editor."))
        table, record = self._nodes()
        lacking = "" if table is not None else _("This result has no table.")
        allow(ui.tableButton, empty or lacking, _("Shows the table of results; press again to go back."))
        lacking = "" if record is not None else _("This result has no run record.")
        tip = _(
            "Shows how the result was made: model, supports, settings, versions; press again to go back. The same as "
            "JSON is a text node under Data."
        )
        allow(ui.recordButton, empty or lacking, tip)
        ui.show3DButton.enabled = not empty
        ui.show3DButton.setSegmentationNode(node)

    def _nodes(self) -> tuple[slicer.vtkMRMLTableNode | None, slicer.vtkMRMLTextNode | None]:
        """Return table and run record of the result; None for a missing one."""
        node, target, run = self._state.segmentation, self._state.parameters.targetVolume, self._state.result
        if node is None:
            return None, None
        film = run is not None and run.request.browser is not None
        return result_nodes.table_of(node), result_nodes.record_of(node, None if film else target)

    # --- what the user does -----------------------------------------------------------------------------------

    def on_doubt(self, item: qt.QListWidgetItem) -> None:
        """Jump to a slice that should be reviewed."""
        number, run, target = self._ui.doubtsList.row(item), self._state.result, self._state.parameters.targetVolume
        if run is not None and run.request.browser is not None:
            if 0 <= number < len(run.doubts):
                run.request.browser.SetSelectedItemNumber(run.doubts[number].index)
        elif target is not None and self._now is not None and 0 <= number < len(self._now.doubts):
            show_slice(slicer.mrmlScene, target, self._now.axis, self._now.doubts[number].index, center=True)

    def on_undo(self) -> None:
        """Undo the run."""
        run = self._state.result
        self._said(run is not None and run.undo(), _("This result cannot be undone any more."))

    def on_redo(self) -> None:
        """Redo the run."""
        run = self._state.result
        self._said(run is not None and run.redo(), _("This result cannot be restored any more."))

    def _said(self, done: bool, sorry: str) -> None:
        run = self._state.result
        left = "\n".join(run.left) if run is not None else ""
        self._state.changed.emit()
        say(self._ui.resultMessageLabel, left if done else sorry)

    def on_edit(self) -> None:
        """Open the Segment Editor with the result and its volume."""
        node, volume = self._state.segmentation, self._state.parameters.targetVolume
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(volume)

    def on_use_corrected(self) -> None:
        """Add the slice on screen as another support."""
        now, table, target = self._now, self._state.table, self._state.parameters.targetVolume
        node = self._state.segmentation
        if now is None or table is None or target is None or node is None:
            return
        index, shown = self._views.slice_on_screen(target, now.axis)
        if index is None:
            say(self._ui.resultMessageLabel, _words_of_views(shown))
            return
        if not any(index in state.changed for state in now.along.values()) and self._asked != (node, index):
            self._asked = (node, index)
            said = _("Slice {number} is as the model drew it. Correct it first; or press again to use it as it is.")
            say(self._ui.resultMessageLabel, said.format(number=index))
            return
        said = ""
        with said_in(self._ui.resultMessageLabel):
            row = self._add_corrected(table, node, target, now, index)
            self._state.selected = row.key
            said = _(
                "Slice {number} is now a support and will stay as it is. Press Apply to segment the others again."
            ).format(number=index)
        self._asked = ()
        self._state.changed.emit()
        if said:
            say(self._ui.resultMessageLabel, said)

    def _add_corrected(
        self,
        table: SupportTable,
        node: slicer.vtkMRMLSegmentationNode,
        target: slicer.vtkMRMLVolumeNode,
        now: ResultNow,
        index: int,
    ) -> SupportRow:
        """Add a slice to the row of the result, or make one; no run writes the slice again.

        Raises:
            ProxyPromptError: If nothing is annotated on the slice.
        """
        ids = (target.GetID(), node.GetID())
        row = next((one for one in table.rows() if (one.volume_id, one.segmentation_id) == ids), None)
        if row is None:
            title = _("{name}, corrected").format(name=target.GetName())
            row = table.add_nodes(target, node, list(now.along), [index], title)
        elif row.slices is None or index not in row.slices:
            row = table.choose(row.key, sorted({*(row.slices or ()), index}))
        for segment_id in now.along:
            accept_slice(node, segment_id, now.axis, index)
        return row

    def on_table(self) -> None:
        """Show the table of results in a table view, or go back to the former layout."""
        self._show_in_view(self._nodes()[0])

    def on_record(self) -> None:
        """Show the run record as a table, or go back to the former layout."""
        _table, record = self._nodes()
        self._show_in_view(None if record is None else result_nodes.record_table_of(record))

    def _show_in_view(self, node: slicer.vtkMRMLTableNode | None) -> None:
        """Show a table in a table view; if it is the one on screen, go back to the former layout."""
        manager, with_table = layout_manager(), slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView
        if node is None or manager is None:
            return
        selection = slicer.app.applicationLogic().GetSelectionNode()
        shown = selection.GetActiveTableID() == node.GetID()
        if manager.layout == with_table and self._layout is not None and shown:
            manager.setLayout(self._layout)
            self._layout = None
            return
        if manager.layout != with_table:
            self._layout = manager.layout
            manager.setLayout(with_table)  # first: the selection reaches only the table views that exist
        selection.SetActiveTableID(node.GetID())
        slicer.app.applicationLogic().PropagateTableSelection()


def _words_of_views(shown: Mapping[str, int]) -> str:
    """Return why the slice on screen is not known."""
    if not shown:
        return _(
            "No slice view shows a slice of the target: turn one to its plane (“Rotate to volume plane” in the bar of "
            "the view) and scroll to the slice."
        )
    views = ", ".join(_("{number} in {view}").format(number=index, view=view) for view, index in shown.items())
    return _("The views show different slices ({views}); click into the one you mean.").format(views=views)


def _cell(value: object) -> str:
    """Format a value of the table."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
