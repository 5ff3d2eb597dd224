"""The folder of studies behind the list of cases: opened and closed here, its studies are read when clicked."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import qt
import slicer
import slicer.util

from ProxyPromptSegmentLib.cohort.folder import INPUTS, PAGE
from ProxyPromptSegmentLib.cohort.studies import shown
from ProxyPromptSegmentModule.panel.chosen_cases import ChosenCases
from ProxyPromptSegmentModule.panel.chosen_target import ChosenTarget
from ProxyPromptSegmentModule.panel.open_folder import OpenFolder
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import CasesWidgets
from ProxyPromptSegmentModule.runs.beside import Answer
from ProxyPromptSegmentModule.runs.folder_request import Listing, StudyFolder
from ProxyPromptSegmentModule.runs.study_reading import ReadStudyTask
from ProxyPromptSegmentModule.scene.nodes import in_scene
from ProxyPromptSegmentModule.scene.pieces import DrawnPieces, at_once
from ProxyPromptSegmentModule.scene.read_study import ReadStudy
from ProxyPromptSegmentModule.scene.slice_views import show_only_own, show_volume_in_pieces
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say


class ReadsStudies(Protocol):
    """The part of `SegmentationLogic` that reads folders and studies beside the worker thread."""

    def list_studies(self, folder: StudyFolder, on_answer: Answer[Listing]) -> None:
        """List the studies of a folder."""

    def read_study(self, task: ReadStudyTask, on_answer: Answer[ReadStudy]) -> None:
        """Read one study."""

    def in_pieces(self, work: DrawnPieces[None]) -> None:
        """Do work on the main thread a few milliseconds at a time."""


class FolderSection(Section):
    """The buttons that open and close a folder of studies, and what is said of it."""

    def __init__(
        self,
        widgets: CasesWidgets,
        state: PanelState,
        chosen: ChosenCases,
        target: ChosenTarget,
        logic: ReadsStudies,
    ) -> None:
        """Connect the widgets.

        Args:
            widgets: The widgets below the list of cases.
            state: The shared state.
            chosen: The cases.
            target: The target, which a study becomes.
            logic: The logic.
        """
        self._ui, self._state, self._chosen, self._target, self._logic = widgets, state, chosen, target, logic
        ui = widgets
        ui.folderButton.connect("clicked()", self.on_folder)
        ui.resultsFolderButton.connect("clicked()", self.on_results)
        say(ui.folderLabel, "")

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show which folder is open."""
        ui, folder = self._ui, self._state.folder
        busy = self._state.segmenting
        ui.folderButton.text = _("Folder of studies…") if folder is None else _("Close the folder")
        tip = _("Lists the studies of a folder here, and segments them into a folder of results, without loading all.")
        if folder is not None:
            tip = _("Lists the images of the scene again; what is in the folder of results stays.")
        allow(ui.folderButton, busy, tip)
        ui.resultsFolderButton.setVisible(folder is not None)
        allow(ui.resultsFolderButton, busy, _("Chooses another folder for the results: a new one, or one to continue."))
        say(ui.folderLabel, "" if folder is None else _words_of(folder))

    # --- opening ----------------------------------------------------------------------------------------------

    def on_folder(self) -> None:
        """Open a folder of studies, or close the one that is open."""
        folder = self._state.folder
        if folder is not None:
            self._leave(folder)
            self._state.folder = None
            self._chosen.forget()
            say(self._ui.casesMessageLabel, "")
            self._state.changed.emit()
            return
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder of studies"), "")
        if chosen:
            place = Path(chosen)
            self.open(StudyFolder(place=place, output=place.parent / f"{place.name} results"))

    def on_results(self) -> None:
        """Choose another folder for the results."""
        folder = self._state.folder
        if folder is None:
            return
        start = str(folder.folder.output.parent)
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder of the results"), start)
        if chosen:
            self.open(StudyFolder(place=folder.folder.place, output=Path(chosen)))

    def open(self, wanted: StudyFolder) -> None:
        """Open a folder; its studies are listed beside the main thread."""
        before = self._state.folder
        if before is not None:
            self._leave(before)
        folder = self._state.folder = OpenFolder(wanted)
        self._state.studies = None
        self._chosen.forget()
        say(self._ui.casesMessageLabel, _("Looking for studies…"))

        def listed(found: Listing | None, error: str) -> None:
            if self._state.folder is not folder:
                return
            say(self._ui.casesMessageLabel, error)
            if found is None:
                self._state.folder = None
            else:
                folder.take(found)
                self._chosen.sort()
            self._state.changed.emit()

        self._logic.list_studies(wanted, listed)
        self._state.changed.emit()

    # --- a study ----------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Show the study that is wanted; it is read beside the main thread, if it is not in the scene."""
        folder = self._state.folder
        path = folder.wanted if folder is not None else None
        if folder is None or path is None:
            return
        row, node = folder.rows.get(path), folder.node_of(path)
        if row is None:  # it is gone from the folder since it was clicked
            folder.wanted = None
            return
        if node is not None and not folder.is_outdated(path, self._state.states):
            self._logic.in_pieces(self._show(folder, path, node))
            return
        say(self._ui.casesMessageLabel, _("Reading “{name}”…").format(name=shown(row.study.name)))

        def answered(read: ReadStudy | None, error: str) -> None:
            if self._state.folder is not folder or folder.wanted != path or not self._state.has_scene:
                return
            say(self._ui.casesMessageLabel, error)
            if read is not None:
                self._logic.in_pieces(self._load(folder, read, shown(row.study.name)))

        output, facts = folder.folder.output, row.facts
        result, report = (facts.get(name) for name in ("result", "report"))
        program = (facts.get("corrected") or {}).get("program_result")
        task = ReadStudyTask(
            path=path,
            result=output / str(result) if result else None,
            report=output / str(report) if report else None,
            program=output / str(program) if program else None,
            content=str(facts.get("input_sha256") or ""),
            inputs=output / INPUTS,
        )
        self._logic.read_study(task, answered)

    def _load(self, folder: OpenFolder, read: ReadStudy, name: str) -> DrawnPieces[None]:
        """Put a study that was read into the scene, so that the window lives meanwhile, and show it if it still is."""
        with said_in(self._ui.casesMessageLabel):
            node = yield from folder.load(read, name, self._state.states)
            if node is not None and self._state.folder is not folder and self._state.has_scene:
                # It was closed meanwhile, which has taken out the others.
                self._leave(folder)
                return
            yield False
            if node is not None and self._is_wanted(folder, read.path):
                yield from self._show(folder, read.path, node)

    def _is_wanted(self, folder: OpenFolder, path: Path) -> bool:
        """Return whether a study is still to be shown: another one may have been clicked meanwhile."""
        return self._state.folder is folder and folder.wanted == path and self._state.has_scene

    def _show(self, folder: OpenFolder, path: Path, node: slicer.vtkMRMLVolumeNode) -> DrawnPieces[None]:
        """Make a study the target, and take the others out of the scene to which nothing of the user's belongs.

        Each is a piece, and so is showing what has changed: with 300 slices of 512 x 512 each takes up to 50 ms.
        """
        if not (self._is_wanted(folder, path) and in_scene(node)):
            return
        with said_in(self._ui.casesMessageLabel):
            yield from show_volume_in_pieces(slicer.mrmlScene, node)
            if not (self._is_wanted(folder, path) and in_scene(node)):
                return
            if node is not self._state.parameters.targetVolume:
                with self._state.quiet():  # the panel is shown again once, at the end, and not while the views render
                    self._target.choose(node)
                yield True
            if self._is_wanted(folder, path) and in_scene(node):
                show_only_own(slicer.mrmlScene, node, self._state.support_rows())
            yield True
            leaving, staying = folder.leave(node, self._state.states, self._in_use()), None
            while staying is None and self._is_wanted(folder, path) and in_scene(node):
                with self._state.quiet():
                    try:
                        next(leaving)
                    except StopIteration as end:
                        staying = end.value
                if staying is None:
                    yield True
            if self._is_wanted(folder, path):
                folder.wanted = None
                self._say_who_stays(staying or [])
            if self._state.has_scene:
                self._state.changed.emit()

    def _say_who_stays(self, names: list[str]) -> None:
        if not names:
            return
        told = _(
            "What you have changed stays in the scene, and is not in the folder of results: {names}. Show it, and "
            "press “Save corrections” to keep it there."
        )
        say(self._ui.casesMessageLabel, told.format(names=", ".join(names)))

    def _leave(self, folder: OpenFolder) -> None:
        """Take the studies of a folder that is closed out of the scene, but the one on screen, and changed ones."""
        at_once(folder.leave(self._state.parameters.targetVolume, self._state.states, self._in_use()))

    def _in_use(self) -> tuple[slicer.vtkMRMLNode, ...]:
        """Return the nodes of supports, and of the support that is being chosen."""
        ids = [one for row in self._state.support_rows() for one in (row.volume_id, row.segmentation_id) if one]
        parameters = self._state.parameters
        nodes = [slicer.mrmlScene.GetNodeByID(one) for one in ids]
        nodes += [parameters.supportVolume, parameters.supportSegmentation]
        return tuple(node for node in nodes if node is not None and in_scene(node))


def _words_of(folder: OpenFolder) -> str:
    """Return what there is to say of a folder."""
    names = {"place": shown(folder.folder.place.name), "output": shown(folder.folder.output.name)}
    count = len(folder.rows)
    if not folder.rows:
        return _("“{place}”").format(**names)
    words = _("{count} studies of “{place}”; results in “{output}”.")
    if count == 1:
        words = _("1 study of “{place}”; results in “{output}”.")
    lines = [words.format(count=count, **names)]
    if folder.annotations:
        told = _("{count} files look like annotations and are not studies.")
        if folder.annotations == 1:
            told = _("1 file looks like an annotation and is not a study.")
        lines.append(told.format(count=folder.annotations))
    if folder.about:
        lines.append(_("The page {file} there shows all of them.").format(file=PAGE))
    return "\n".join(lines)
