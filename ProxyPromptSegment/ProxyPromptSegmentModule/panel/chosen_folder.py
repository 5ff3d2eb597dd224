"""The request to segment the studies of the folder that is open, derived from the choices of the panel."""

from __future__ import annotations

from pathlib import Path

import slicer

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentModule.panel.chosen_cases import ChosenCases
from ProxyPromptSegmentModule.panel.chosen_classes import ChosenClasses
from ProxyPromptSegmentModule.panel.chosen_objects import ChosenObjects
from ProxyPromptSegmentModule.panel.open_folder import OpenFolder
from ProxyPromptSegmentModule.panel.requests import Requests
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.runs.folder_request import FolderRequest, SupportFiles
from ProxyPromptSegmentModule.scene.terminology import object_name
from ProxyPromptSegmentModule.states import PromptBy
from ProxyPromptSegmentModule.supports.files import files_in_library, files_of_nodes
from ProxyPromptSegmentModule.supports.saved import SupportRow
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import ranges


class ChosenFolder:
    """What the studies of the folder are segmented with."""

    def __init__(
        self,
        state: PanelState,
        cases: ChosenCases,
        requests: Requests,
        objects: ChosenObjects,
        classes: ChosenClasses,
    ) -> None:
        """Derive everything from the state and the choices."""
        self._state, self._cases, self._requests = state, cases, requests
        self._named, self._classes = objects, classes

    def reason(self) -> str:
        """Return why the studies cannot be segmented; "" if they can."""
        if self._requests.settings().follow:
            told = _("The studies of a folder are segmented slice by slice; untick “{box}” under Model and settings.")
            return told.format(box=_("Follow objects from slice to slice"))
        return ""

    def request(self, folder: OpenFolder) -> FolderRequest:
        """Return the request for the ticked studies.

        Raises:
            ProxyPromptError: If a support cannot be read.
        """
        names, classes = self._named.names(), self._classes.chosen()
        left_out = [Path(case.key) for case in self._cases.cases() if not case.ticked]
        return FolderRequest(
            folder=folder.folder,
            supports=self._supports(names),
            objects=() if classes else self._objects(folder, names),
            classes=classes,
            settings=self._requests.settings(),
            left_out=frozenset(left_out),
        )

    def _rows(self, names: tuple[str, ...]) -> list[SupportRow]:
        """Return the supports in use that have all objects."""
        return [row for row in self._state.used_rows() if all(row.find(name) for name in names)]

    def _supports(self, names: tuple[str, ...]) -> tuple[SupportFiles, ...]:
        if self._state.prompt_by != PromptBy.SUPPORT:
            return ()
        table, found = self._state.table, []
        if table is None:
            raise UsageError(_("Some packages are not installed yet."))
        for row in self._rows(names):
            slices = "auto" if row.slices is None else ranges(row.slices).replace(" ", "")
            files = SupportFiles(title=row.title, case=table.case(row.key), files=self._files(row), slices=slices)
            found.append(files)
        return tuple(found)

    def _files(self, row: SupportRow) -> tuple[Path, Path] | None:
        library = self._state.library
        if row.library_id and library is not None:
            return files_in_library(library, row.library_id)
        scene = slicer.mrmlScene
        return files_of_nodes(scene.GetNodeByID(row.volume_id or ""), scene.GetNodeByID(row.segmentation_id or ""))

    def _objects(self, folder: OpenFolder, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the objects as a user of the command line would name them: none if all are meant.

        What was begun with all of them named is continued so.
        """
        settings = folder.about.get("settings")
        if isinstance(settings, dict) and settings.get("objects") == list(names):
            return names
        every = [self._names_in(row) for row in self._rows(names)]
        shared = set.intersection(*every) if every else set()
        return () if shared == {name.casefold() for name in names} else names

    def _names_in(self, row: SupportRow) -> set[str]:
        """Return the names of everything that the annotation of a support holds."""
        node: slicer.vtkMRMLSegmentationNode | None = slicer.mrmlScene.GetNodeByID(row.segmentation_id or "")
        if node is None:
            return {one.name.strip().casefold() for one in row.objects}
        inside = node.GetSegmentation()
        return {object_name(inside.GetSegment(one)).strip().casefold() for one in inside.GetSegmentIDs()}
