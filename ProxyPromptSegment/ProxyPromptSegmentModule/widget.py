"""The panel: puts the sections together and keeps them in step with the parameter node. No computation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import qt
import slicer
import slicer.util

from ProxyPromptSegmentModule.panel.apply_section import ApplySection
from ProxyPromptSegmentModule.panel.install_section import FirstRunSection
from ProxyPromptSegmentModule.panel.library_section import LibrarySection
from ProxyPromptSegmentModule.panel.model_section import ModelSection
from ProxyPromptSegmentModule.panel.objects_section import ObjectsSection
from ProxyPromptSegmentModule.panel.requests import settings_of
from ProxyPromptSegmentModule.panel.result_section import ResultSection
from ProxyPromptSegmentModule.panel.support_section import SupportSection
from ProxyPromptSegmentModule.panel.supports_table import SupportsTable
from ProxyPromptSegmentModule.panel.target_section import TargetSection
from ProxyPromptSegmentModule.panel.why_section import WhySection
from ProxyPromptSegmentModule.parameters import ProxyPromptParameters
from ProxyPromptSegmentModule.wording import explained, say

UI_FILES = (
    "ProxyPromptSegment",
    "SupportSection",
    "LibrarySection",
    "TargetSection",
    "ModelSection",
    "ApplySection",
    "ResultSection",
    "WhySection",
)
_AFTER_LOADING_MS = 200
_log = logging.getLogger(__name__)


class ModuleWidget:
    """What the module's widget class consists of.

    Attributes:
        host: The ``ScriptedLoadableModuleWidget``: layout, resource paths, logic, observers of VTK objects.
        ui: All widgets of the .ui files by name.
        logic: The module's logic.
        parameters: The choices; None while a scene is being closed.
        table: The supports of the scene; None before the first run has installed what it needs.
        library: The user's support library; None likewise.
        shelf: The models; None likewise.
        run: The latest run; None before the first and after a scene was closed.
    """

    def __init__(self, host: Any) -> None:
        """Builds nothing yet, see `setup`."""
        self.host = host
        self.ui = SimpleNamespace()
        self.logic: Any = None
        self.parameters: Any = None
        self.table: Any = None
        self.library: Any = None
        self.shelf: Any = None
        self.run: Any = None
        self.sections: list[Any] = []
        self._quiet = 0
        self._entered = False
        self._changed = False

    # --- life -------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Loads the .ui files and connects everything; called once."""
        self.logic = self.host.logic
        for name in UI_FILES:
            part = slicer.util.loadUI(self.host.resourcePath(f"UI/{name}.ui"))
            self.host.layout.addWidget(part)
            vars(self.ui).update(vars(slicer.util.childWidgetVariables(part)))
            with self.quiet():  # selectors choose nodes of themselves as soon as they know the scene
                part.setMRMLScene(slicer.mrmlScene)
        self.host.layout.addStretch(1)
        self.first_run = FirstRunSection(self)
        self.supports = SupportSection(self)
        self.supports_table = SupportsTable(self)
        self.objects = ObjectsSection(self)
        self.libraries = LibrarySection(self)
        self.target = TargetSection(self)
        self.models = ModelSection(self)
        self.apply = ApplySection(self)
        self.results = ResultSection(self)
        self.why = WhySection(self)
        self.sections = [
            self.first_run,
            self.supports,
            self.supports_table,
            self.objects,
            self.libraries,
            self.target,
            self.models,
            self.apply,
            self.results,
            self.why,
        ]
        scene, event = slicer.mrmlScene, slicer.vtkMRMLScene
        self.host.addObserver(scene, event.StartCloseEvent, self.on_scene_start_close)
        self.host.addObserver(scene, event.EndCloseEvent, self.on_scene_end_close)
        self.host.addObserver(scene, event.EndImportEvent, self.on_scene_end_import)
        self.host.addObserver(scene, event.NodeAddedEvent, self.on_node_added)
        self.host.addObserver(scene, event.NodeRemovedEvent, self.on_node_removed)
        self.use_parameter_node()

    def cleanup(self) -> None:
        """Ends everything that goes on; called when the module is unloaded or Slicer ends."""
        self.leave_parameter_node()
        for section in self.sections:
            close = getattr(section, "close", None)
            if close is not None:
                close()
        self.sections = []
        self.host.removeObservers()
        if self.shelf is not None:
            self.shelf.close()
        if self.logic is not None:
            self.logic.shutdown()

    def enter(self) -> None:
        """Somebody opens the module."""
        self._entered = True
        self.first_run.enter()
        self.models.look_again()
        if self.parameters is None:
            self.use_parameter_node()
        else:
            self.choose_defaults()
            self.refresh()
        if not self.first_run.reason and self.parameters is not None and not self.models.reason():
            self.logic.warm_up(settings_of(self))

    def exit(self) -> None:
        """Somebody opens another module; a run goes on, a live preview does not."""
        self._entered = False
        self.apply.end_live()
        self.why.stop()

    @property
    def entered(self) -> bool:
        """Whether the module is open; one that was reloaded while it was open is not told so by `enter`."""
        return self._entered or bool(getattr(getattr(self.host, "parent", None), "isEntered", False))

    # --- parameter node ---------------------------------------------------------------------------------------

    def use_parameter_node(self) -> None:
        """Shows and observes the scene's parameter node; makes one where there is none."""
        self.leave_parameter_node()
        node = self.logic.getParameterNode()
        self.parameters = ProxyPromptParameters(node)
        self.equip()
        # After the wrapper's own observers, or it would still give the former values.
        self.host.addObserver(node, "ModifiedEvent", self.on_parameters, priority=-1.0)
        self.choose_defaults()
        self.refresh()

    def leave_parameter_node(self) -> None:
        """Forgets the parameter node, and what belongs to its scene."""
        if self.parameters is not None:
            self.host.removeObserver(self.parameters.parameterNode, "ModifiedEvent", self.on_parameters)
        self.parameters, self.table = None, None

    def equip(self) -> None:
        """Makes the collaborators; what lacks a package is made after the first run has installed it."""
        try:
            from ProxyPromptSegmentLib.library.store import SupportLibrary
            from ProxyPromptSegmentModule.models.shelf import ModelShelf
            from ProxyPromptSegmentModule.supports.table import SupportTable

            self.library = self.library or SupportLibrary()
            self.shelf = self.shelf or ModelShelf()
            if self.table is None and self.parameters is not None:
                self.table = SupportTable(self.parameters.parameterNode, self.library)
        except ImportError as error:
            _log.info("not installed yet: %s", error)

    def choose_defaults(self) -> None:
        """Fills in what is likely meant, where nothing is chosen, to save clicks."""
        if self.parameters is None or slicer.mrmlScene.IsBatchProcessing():
            return
        self.supports.choose_defaults()
        self.target.choose_defaults()

    # --- staying in step --------------------------------------------------------------------------------------

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """While this lasts, what widgets say comes from us and not from the user."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1

    @property
    def listening(self) -> bool:
        """Whether what a widget says comes from the user and can be kept."""
        return not self._quiet and self.parameters is not None

    def refresh(self) -> None:
        """Shows the state in all sections."""
        if self.parameters is None or not self.sections:
            return
        if self._quiet:  # the nodes change while they are shown: once more, afterwards
            self._changed = True
            return
        for _turn in range(3):  # more turns would mean two sections that correct each other
            self._changed = False
            self.target.look_again()
            with self.quiet():
                for section in self.sections:
                    self._refresh(section)
            if not self._changed:
                break

    def _refresh(self, section: Any) -> None:
        """A fault in one section leaves the others usable."""
        try:
            section.refresh()
        except Exception as error:
            say(self.ui.runLabel, explained(error))

    def run_changed(self, run: Any) -> None:
        """Follows a run; slices come many times a second, so little is done here."""
        if run is not self.run or self.parameters is None:
            return
        if run.segmentation is not None and self.parameters.outputSegmentation is not run.segmentation:
            self.parameters.outputSegmentation = run.segmentation
        self.apply.show_run(run)
        if run.ended:
            self.refresh()

    def support_rows(self) -> list[Any]:
        """All supports of the scene."""
        return self.table.rows() if self.table is not None else []

    def used_rows(self) -> list[Any]:
        """Ticked supports with which nothing is wrong."""
        return [row for row in self.support_rows() if row.ready]

    # --- events of the scene ----------------------------------------------------------------------------------

    def on_parameters(self, caller: Any, event: str) -> None:
        """The parameter node has changed: through us, a script, or an undo."""
        self.refresh()

    def on_scene_start_close(self, caller: Any, event: str) -> None:
        """Nothing of this scene may be used any more."""
        self.apply.end_live()
        self.why.stop()
        self.run = None
        for label in (self.ui.runLabel, self.ui.supportMessageLabel):  # they tell of what is gone
            say(label, "")
        self.leave_parameter_node()

    def on_scene_end_close(self, caller: Any, event: str) -> None:
        """An empty scene; with the module open it gets a parameter node at once."""
        if self.entered:
            self.use_parameter_node()

    def on_scene_end_import(self, caller: Any, event: str) -> None:
        """A scene was loaded, perhaps with a parameter node of its own."""
        self.use_parameter_node()

    def on_node_added(self, caller: Any, event: str) -> None:
        """A node that was just loaded may be what is needed."""
        if self.entered and self.listening and not slicer.mrmlScene.IsBatchProcessing():
            qt.QTimer.singleShot(_AFTER_LOADING_MS, self.choose_defaults)  # its voxels are read after it was added

    def on_node_removed(self, caller: Any, event: str) -> None:
        """What was chosen may be gone."""
        if self.parameters is None or slicer.mrmlScene.IsBatchProcessing() or slicer.mrmlScene.IsClosing():
            return
        if self.run is not None and self.run.ended and not self.result_there():
            self.run = None
        self.refresh()

    def result_there(self) -> bool:
        """Whether the latest run's segmentation is still in the scene."""
        node = self.run.segmentation if self.run is not None else None
        return node is not None and slicer.mrmlScene.IsNodePresent(node) != 0
