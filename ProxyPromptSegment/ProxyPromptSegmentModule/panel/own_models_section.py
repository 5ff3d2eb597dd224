"""The models of the user's own: renamed, described, exported as one file, imported, removed."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
import slicer.util

from ProxyPromptSegmentModule.models.own_models import OwnModel, OwnModels
from ProxyPromptSegmentModule.panel.file_names import file_to_write
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import TeachWidgets
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say, size

_FILES = "(*.safetensors)"


class OwnModelsSection(Section):
    """The list of the user's models, and what can be done with the selected one."""

    def __init__(self, widgets: TeachWidgets, state: PanelState, models: OwnModels) -> None:
        """Connect the widgets."""
        self._ui, self._state, self._models = widgets, state, models
        self._rows: list[OwnModel] = []
        self._stamp: object = None
        self._selected = ""
        ui = widgets
        ui.ownModelsBox.connect("toggled(bool)", self.on_opened)
        ui.ownModelsList.connect("currentRowChanged(int)", self.on_select)
        ui.ownSaveButton.connect("clicked()", self.on_save)
        ui.ownExportButton.connect("clicked()", self.on_export)
        ui.ownImportButton.connect("clicked()", self.on_import)
        ui.ownRemoveButton.connect("clicked()", self.on_remove)
        say(ui.ownMessageLabel, "")

    def refresh(self) -> None:
        """Show the models, if they can be seen."""
        ui = self._ui
        if ui.teachButton.collapsed or ui.ownModelsBox.collapsed or self._state.catalog is None:
            return
        self._look_again()
        self._show_buttons()

    def _look_again(self) -> None:
        with said_in(self._ui.ownMessageLabel):
            rows = self._models.rows()
            if rows == self._rows and self._stamp is not None:
                return
            self._rows, self._stamp = rows, object()
            listed = self._ui.ownModelsList
            with self._state.quiet():
                listed.clear()
                for row in rows:
                    listed.addItem(_("{name}, {size}").format(name=row.name, size=size(row.bytes)))
                names = [row.name for row in rows]
                listed.currentRow = names.index(self._selected) if self._selected in names else -1
            listed.setVisible(bool(rows))
            self._show_selected()

    @property
    def selected(self) -> OwnModel | None:
        """The selected model, or None."""
        return next((row for row in self._rows if row.name == self._selected), None)

    def _show_selected(self) -> None:
        ui, row = self._ui, self.selected
        ui.ownNameEdit.text = row.name if row is not None else ""
        ui.ownWordsEdit.text = row.described if row is not None else ""
        nothing = _("No models of your own yet: teach one above, or import one.")
        say(ui.ownModelLabel, row.description if row is not None else "" if self._rows else nothing)

    def _show_buttons(self) -> None:
        ui, row = self._ui, self.selected
        busy = self._state.teaching or self._state.segmenting
        select = busy or ("" if row is not None else _("Select a model in the list."))
        used = ""
        if row is not None and row.completes:
            used = _("Other models need it: {names}.").format(names=", ".join(row.completes))
        allow(ui.ownSaveButton, select or used, _("Stores the name and the words above in the model's file and card."))
        allow(ui.ownExportButton, select, _("Writes the model with its card into one file, for another computer."))
        allow(ui.ownImportButton, busy, _("Imports a model that was exported on another computer."))
        allow(
            ui.ownRemoveButton, select or used, _("Removes the model from this computer; asks for confirmation first.")
        )
        for widget in (ui.ownNameEdit, ui.ownWordsEdit):
            widget.enabled = row is not None

    # --- what the user does -----------------------------------------------------------------------------------

    def on_opened(self, opened: bool) -> None:
        """Show the models when the box is opened."""
        self._state.changed.emit()

    def on_select(self, row: int) -> None:
        """Show a model."""
        if self._state.is_quiet:
            return
        self._selected = self._rows[row].name if 0 <= row < len(self._rows) else ""
        say(self._ui.ownMessageLabel, "")
        self._show_selected()
        self._state.changed.emit()

    def on_save(self) -> None:
        """Store name and words."""
        ui, row = self._ui, self.selected
        if row is None:
            return
        with said_in(ui.ownMessageLabel):
            made = self._models.revise(row.name, ui.ownNameEdit.text.strip(), ui.ownWordsEdit.text)
            if self._state.parameters.model == row.name:
                self._state.parameters.model = made
            if self._state.parameters.teachModel == row.name:
                self._state.parameters.teachModel = made
            self._selected, self._stamp = made, None
            say(ui.ownMessageLabel, _("Stored as “{name}”.").format(name=made))
        self._changed()

    def on_export(self) -> None:
        """Write the selected model into a file."""
        row = self.selected
        if row is None:
            return
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(),
            _("Export a model"),
            f"{row.name}.safetensors",
            _("Models {files}").format(files=_FILES),
        )
        file = file_to_write(path, ".safetensors")
        if file is None:
            return
        with said_in(self._ui.ownMessageLabel):
            with slicer.util.WaitCursor():
                base = self._models.export(row.name, file)
            lines = [_("Written to {file}.").format(file=file)]
            if base:
                lines.append(_("It is completed by {name}, which the other computer needs too.").format(name=base))
            say(self._ui.ownMessageLabel, "\n".join(lines))

    def on_import(self) -> None:
        """Import a model from a file; under another name if its own is taken."""
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Import a model"), "", _("Models {files}").format(files=_FILES)
        )
        if not path:
            return
        with said_in(self._ui.ownMessageLabel):
            with slicer.util.WaitCursor():
                taken = self._models.take(Path(path))
            self._selected, self._stamp = taken.name, None
            told = _("Imported as “{name}”.")
            if taken.already_there:
                told = _("This model is here already, as “{name}”.")
            elif taken.name != taken.own_name:
                told = _("Imported as “{name}”, because “{own}” is the name of another model.")
            say(self._ui.ownMessageLabel, told.format(name=taken.name, own=taken.own_name))
        self._changed()

    def on_remove(self) -> None:
        """Remove the selected model after confirmation."""
        row = self.selected
        if row is None:
            return
        question = _(
            "Remove {name} from this computer? It was made here or imported, and cannot be downloaded again: export it "
            "first if you may need it."
        ).format(name=row.name)
        if not slicer.util.confirmOkCancelDisplay(question, _("Remove a model")):
            return
        with said_in(self._ui.ownMessageLabel):
            freed = self._models.remove(row.name)
            if self._state.parameters.model == row.name:
                self._state.parameters.model = ""
            if self._state.parameters.teachModel == row.name:
                self._state.parameters.teachModel = ""
            self._selected, self._stamp = "", None
            say(self._ui.ownMessageLabel, _("{size} were freed.").format(size=size(freed)))
        self._changed()

    def _changed(self) -> None:
        self._state.models_changed.emit()
        self._state.changed.emit()
