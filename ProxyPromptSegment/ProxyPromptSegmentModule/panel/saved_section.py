"""The button that keeps a corrected study of a folder in the folder of results."""

from __future__ import annotations

from typing import Protocol

from ProxyPromptSegmentLib.cohort.rows import Row
from ProxyPromptSegmentLib.cohort.studies import shown
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
from ProxyPromptSegmentModule.panel.open_folder import Loaded, OpenFolder
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import CasesWidgets
from ProxyPromptSegmentModule.runs.beside import Answer
from ProxyPromptSegmentModule.runs.correction_task import CorrectionTask
from ProxyPromptSegmentModule.scene.loaded_study import content_now
from ProxyPromptSegmentModule.scene.masks import segmentation_in_pieces
from ProxyPromptSegmentModule.scene.nodes import in_scene
from ProxyPromptSegmentModule.scene.pieces import Pieces
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say


class SavesCorrections(Protocol):
    """The part of `SegmentationLogic` that writes corrections beside the worker thread."""

    def save_correction(self, task: CorrectionTask, on_answer: Answer[Row]) -> None:
        """Write one correction."""

    def in_pieces(self, work: Pieces[None], promised: bool = False) -> None:
        """Do work on the main thread a few milliseconds at a time; the rest of promised work before a scene closes."""


class SavedSection(Section):
    """The button below the folder of studies; it is there while a folder is open."""

    def __init__(self, widgets: CasesWidgets, state: PanelState, logic: SavesCorrections) -> None:
        """Connect the widgets.

        Args:
            widgets: The widgets below the list of cases.
            state: The shared state.
            logic: The logic.
        """
        self._ui, self._state, self._logic = widgets, state, logic
        self._saving: OpenFolder | None = None
        widgets.saveCorrectionsButton.connect("clicked()", self.on_save)

    def refresh(self) -> None:
        """Show whether the study on screen has something to be saved."""
        folder = self._state.folder
        self._ui.saveCorrectionsButton.setVisible(folder is not None)
        if folder is None:
            return
        tip = _(
            "Writes the corrected result on screen into the folder of results, as a new version beside the program's, "
            "which stays as it is. The study then counts as corrected by hand and is not segmented again."
        )
        allow(self._ui.saveCorrectionsButton, self._reason(folder, self._target(folder)), tip)

    def _target(self, folder: OpenFolder) -> Loaded | None:
        return folder.loaded_of(self._state.parameters.targetVolume)

    def _reason(self, folder: OpenFolder, one: Loaded | None) -> str:
        """Return why nothing can be saved; "" if it can."""
        if self._saving is folder:
            return _("Corrections are being saved.")
        if one is None:
            return _("Click a study in the list first.")
        row = folder.rows.get(one.path)
        if row is None or not row.state.is_done or one.result is None or not in_scene(one.result):
            return _("The folder has no result of this study that could be corrected; segment it first.")
        if one.content != str(row.facts.get("input_sha256") or ""):
            return _("The study was changed since it was read; close the folder and open it again.")
        if self._state.running:
            return _("Wait for the run to end.")
        if not folder.is_changed(one, self._state.states):
            return _("The folder has this result as it is on screen.")
        return ""

    def on_save(self) -> None:
        """Copy the result, and write it beside the main thread."""
        folder = self._state.folder
        one = self._target(folder) if folder is not None else None
        if folder is None or one is None or self._reason(folder, one):
            return
        self._saving = folder
        say(self._ui.casesMessageLabel, _("Saving corrections…"))
        self._state.changed.emit()
        self._logic.in_pieces(self._copy(folder, one), promised=True)

    def _copy(self, folder: OpenFolder, one: Loaded) -> Pieces[None]:
        """Copy the result, and hand it over; whatever goes wrong, the button can be pressed again afterwards."""
        handed = False
        try:
            with said_in(self._ui.casesMessageLabel):
                assert one.result is not None  # `on_save` has looked
                row = folder.rows[one.path]
                # Before it is copied: what is drawn meanwhile is not in the copy for certain.
                kept = content_now(one.volume, one.result, self._state.states, one.axis) or {}
                copied, _notes = yield from segmentation_in_pieces(one.result, one.volume)
                corrected = Segmentation(copied.segments, one.geometry)  # it may have been moved in the scene

                def answered(now: Row | None, error: str) -> None:
                    if self._saving is folder:  # and not one that was opened meanwhile
                        self._saving = None
                    if now is not None:
                        one.kept = kept
                        folder.rows[one.path] = now
                    self._say(folder, shown(row.study.name), now, error)

                task = CorrectionTask(folder=folder.folder, row=row, corrected=corrected)
                self._logic.save_correction(task, answered)
                handed = True
        finally:
            if not handed:
                self._saving = None
                if self._state.has_scene:
                    self._state.changed.emit()

    def _say(self, folder: OpenFolder, name: str, row: Row | None, error: str) -> None:
        """Say where the corrections are, or why they are nowhere, also after their scene or folder was closed."""
        if row is not None:
            words = _("The corrections of {study} are in {file}.")
            told = words.format(study=name, file=folder.folder.output / str(row.facts.get("result")))
        elif self._state.folder is folder:
            told = error
        else:
            told = _("The corrections of {study} were not saved: {error}").format(study=name, error=error)
        say(self._ui.casesMessageLabel, told)
        if self._state.has_scene:
            self._state.changed.emit()
