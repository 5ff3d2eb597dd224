"""The library section: cases that were saved earlier, to be used as supports."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import qt
import slicer
import slicer.util

from ProxyPromptSegmentLib.library.archive import export_zip, import_zip
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentModule.panel.file_names import file_to_write
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import LibraryWidgets
from ProxyPromptSegmentModule.runs.request import Settings
from ProxyPromptSegmentModule.states import PromptBy
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.library.entry import LibraryEntry
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentLib.review.suggest import Suggestion
    from ProxyPromptSegmentModule.runs.questions import SuggestAnswer


class Suggests(Protocol):
    """The part of `SegmentationLogic` that ranks a library."""

    def suggest(
        self,
        target: slicer.vtkMRMLVolumeNode,
        library: SupportLibrary,
        on_answer: SuggestAnswer,
        settings: Settings | None = None,
    ) -> None:
        """Rank a library by likeness to the target."""


class LibrarySection(Section):
    """The list of saved cases with thumbnails, and the actions on them."""

    def __init__(
        self, widgets: LibraryWidgets, state: PanelState, settings: Callable[[], Settings], logic: Suggests
    ) -> None:
        """Connect the widgets."""
        self._ui, self._state, self._settings, self._logic = widgets, state, settings, logic
        self.entries: list[LibraryEntry] = []
        self._likeness: dict[str, Suggestion] = {}
        self._read = False
        self._asking = False
        ui = widgets
        ui.libraryButton.connect("contentsCollapsed(bool)", self.on_collapsed)
        ui.libraryList.connect("itemSelectionChanged()", self.on_selection)
        ui.libraryList.connect("itemDoubleClicked(QListWidgetItem*)", lambda item: self.on_add())
        ui.libraryAddButton.connect("clicked()", self.on_add)
        ui.librarySuggestButton.connect("clicked()", self.on_suggest)
        ui.libraryImportButton.connect("clicked()", self.on_import)
        ui.libraryExportButton.connect("clicked()", self.on_export)
        ui.libraryDeleteButton.connect("clicked()", self.on_delete)
        ui.librarySaveButton.connect("clicked()", self.on_save)
        say(ui.libraryMessageLabel, "")

    def look_again(self) -> None:
        """Read the library's folder; after a suggestion, the cases most like the target come first."""
        library = self._state.library
        if library is None:
            return
        self._read = True
        with said_in(self._ui.libraryMessageLabel):
            entries = library.entries()
            self.entries = sorted(entries, key=lambda one: -self._likeness_of(one))
        with self._state.quiet():
            self._ui.libraryList.clear()
            for entry in self.entries:
                item = qt.QListWidgetItem(self._title(entry))
                item.setToolTip(self._tip(entry))
                path = library.thumbnail_path(entry)
                if path is not None:
                    item.setIcon(qt.QIcon(str(path)))
                self._ui.libraryList.addItem(item)

    def _likeness_of(self, entry: LibraryEntry) -> float:
        found = self._likeness.get(entry.id)
        return found.likeness if found is not None else -1.0

    def _title(self, entry: LibraryEntry) -> str:
        objects = ", ".join(one.name for one in entry.objects)
        text = f"{entry.title or entry.id}\n{objects}"
        if entry.modality:
            text += f" · {entry.modality}"
        if entry.id in self._likeness:
            text += "\n" + _("likeness {percent} %").format(percent=round(100 * self._likeness_of(entry)))
        return f"⚠ {text}" if entry.problem else text

    def _tip(self, entry: LibraryEntry) -> str:
        lines = [entry.problem, self._likeness[entry.id].reason if entry.id in self._likeness else "", entry.notes]
        if entry.annotator:
            lines.append(_("Annotated by {name}.").format(name=entry.annotator))
        lines.append(_("Saved {date}.").format(date=entry.saved[:10]))
        return "\n".join(line for line in lines if line)

    def selected(self) -> list[LibraryEntry]:
        """Return the selected cases."""
        rows = sorted(self._ui.libraryList.row(item) for item in self._ui.libraryList.selectedItems())
        return [self.entries[row] for row in rows if row < len(self.entries)]

    def refresh(self) -> None:
        """Show which actions are possible."""
        ui, chosen = self._ui, self.selected()
        ui.libraryButton.setVisible(self._state.prompt_by == PromptBy.SUPPORT)
        here = self._state.obstacle if self._state.library is None else ""
        if not self._read and not ui.libraryButton.collapsed:
            self.look_again()
        library = self._state.library
        say(ui.libraryPlaceLabel, _("Folder: {folder}").format(folder=library.folder) if library is not None else "")
        ui.libraryList.setVisible(bool(self.entries))
        select = here or ("" if chosen else _("Select one or more cases in the list."))
        damaged = next((one.problem for one in chosen if one.problem), "")
        allow(ui.libraryAddButton, select or damaged, _("Adds the selected cases to the table of supports."))
        allow(
            ui.libraryDeleteButton,
            select,
            _("Deletes the selected cases from the library; asks for confirmation first."),
        )
        allow(ui.libraryImportButton, here, _("Imports cases from a zip file into the library."))
        empty = here or ("" if self.entries else _("The library is empty."))
        allow(ui.libraryExportButton, empty, _("Exports the selected cases (or all) to a zip file."))
        target = "" if self._state.parameters.targetVolume is not None else _("Select the volume to segment first.")
        busy = _("The library is being compared.") if self._asking else ""
        allow(
            ui.librarySuggestButton,
            self._state.obstacle or self._state.teaching or empty or target or busy,
            _("Ranks the library by likeness to the target, and warns if nothing resembles it."),
        )
        row = self._state.selected_row()
        which = "" if row is not None else _("Select the support to save in the table of supports.")
        again = _("This support comes from the library.") if row is not None and row.library_id else ""
        problem = row.problem if row is not None else ""
        allow(
            ui.librarySaveButton,
            here or which or again or problem,
            _("Copies the image and the masks of the selected support into the library."),
        )

    # --- what the user does -----------------------------------------------------------------------------------

    def on_collapsed(self, collapsed: bool) -> None:
        """Read the folder when the section is opened."""
        if not collapsed and self._state.listening:
            self.look_again()
            self._state.changed.emit()

    def on_selection(self) -> None:
        """Update the buttons for the selected cases."""
        if self._state.listening:
            with self._state.quiet():
                self.refresh()

    def on_add(self) -> None:
        """Add the selected cases as supports."""
        table = self._state.table
        if table is None:
            return
        say(self._ui.libraryMessageLabel, "")
        with said_in(self._ui.libraryMessageLabel):
            for entry in self.selected():
                self._state.selected = table.add_library(entry).key
        self._state.changed.emit()
        self._state.choice_changed.emit()

    def on_suggest(self) -> None:
        """Start the ranking of the cases; `on_suggestions` receives the answer."""
        target, library = self._state.parameters.targetVolume, self._state.library
        if target is None or library is None:
            return
        say(self._ui.libraryMessageLabel, _("Comparing the library with the target…"))
        with said_in(self._ui.libraryMessageLabel):
            self._logic.suggest(target, library, self.on_suggestions, settings=self._settings())
            self._asking = True  # not where the question could not be asked
        self._state.changed.emit()

    def on_suggestions(self, suggestions: list[Suggestion], sentence: str) -> None:
        """Show the cases in the order of their likeness, or the warning."""
        self._asking = False
        self._likeness = {one.entry.id: one for one in suggestions if not isinstance(one.entry, SupportCase)}
        self.look_again()
        best = _("The cases most like the target are listed first.") if suggestions else ""
        say(self._ui.libraryMessageLabel, sentence or best)
        self._state.changed.emit()

    def on_save(self) -> None:
        """Save the selected support."""
        ui, row, table = self._ui, self._state.selected_row(), self._state.table
        if row is None or table is None:
            return
        node: slicer.vtkMRMLVolumeNode | None = slicer.mrmlScene.GetNodeByID(row.volume_id) if row.volume_id else None
        identifying = {"name": node.GetName()} if ui.libraryIdentifyingBox.checked and node is not None else None
        with said_in(ui.libraryMessageLabel):
            entry = table.save_to_library(
                row.key,
                title=ui.libraryTitleEdit.text.strip(),
                annotator=ui.libraryAnnotatorEdit.text.strip(),
                modality=ui.libraryModalityEdit.text.strip(),
                notes=ui.libraryNotesEdit.text.strip(),
                identifying=identifying,
            )
            self.look_again()
            known = _("The library already has this case, as “{title}”.")
            text = known if entry.already_there else _("Saved as “{title}”.")
            say(ui.libraryMessageLabel, text.format(title=entry.title))
            if not entry.already_there:  # they describe this case only; annotator and modality may suit the next one
                ui.libraryTitleEdit.text = ui.libraryNotesEdit.text = ""
        self._state.changed.emit()

    def on_import(self) -> None:
        """Import cases from a zip file."""
        library = self._state.library
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Import cases"), "", _("Cases of the support library (*.zip)")
        )
        if not path or library is None:
            return
        with said_in(self._ui.libraryMessageLabel):
            with slicer.util.WaitCursor():
                found = import_zip(library, path)
            self.look_again()
            taken = sum(one.entry is not None and not one.already_there for one in found)
            lines = [_("Cases imported into the library: {count}.").format(count=taken)]
            lines += [
                _("“{title}”: {reason}").format(title=one.title, reason=one.refusal) for one in found if one.refusal
            ]
            lines += [
                _("“{title}” was already in the library.").format(title=one.title) for one in found if one.already_there
            ]
            say(self._ui.libraryMessageLabel, "\n".join(lines))
        self._state.changed.emit()

    def on_export(self) -> None:
        """Export the selected cases, or all, to a zip file."""
        library = self._state.library
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Export cases"), "supports.zip", _("Cases of the support library (*.zip)")
        )
        file = file_to_write(path, ".zip")
        if file is None or library is None:
            return
        with said_in(self._ui.libraryMessageLabel):
            chosen = self.selected() or self.entries
            with slicer.util.WaitCursor():
                export_zip(library, chosen, file)
            say(self._ui.libraryMessageLabel, _("Cases exported: {count}.").format(count=len(chosen)))

    def on_delete(self) -> None:
        """Delete the selected cases after confirmation."""
        chosen, library = self.selected(), self._state.library
        titles = "\n".join(one.title or one.id for one in chosen)
        question = _("Permanently delete these cases from the library?\n\n{titles}").format(titles=titles)
        if library is None or not slicer.util.confirmOkCancelDisplay(question, _("Delete cases")):
            return
        with said_in(self._ui.libraryMessageLabel):
            for entry in chosen:
                library.remove(entry)
            say(self._ui.libraryMessageLabel, _("Cases deleted: {count}.").format(count=len(chosen)))
        self.look_again()
        self._state.changed.emit()
