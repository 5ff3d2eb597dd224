"""The panel: loads its files, keeps its sections in step with the parameter node and the scene. No computation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Protocol

import qt
import slicer
import slicer.util
import vtk

from ProxyPromptSegmentModule.panel.assembly import FILES, Sections, build, choose
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.target_section import Observers
from ProxyPromptSegmentModule.parameters import ProxyPromptParameters
from ProxyPromptSegmentModule.wording import explained, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from ProxyPromptSegmentModule.logic import SegmentationLogic

    class ModuleLogic(SegmentationLogic):
        """The module's logic with what Slicer's own class adds."""

        def getParameterNode(self) -> slicer.vtkMRMLScriptedModuleNode: ...  # noqa: D102


_AFTER_LOADING_MS = 200
_AFTER_THE_WRAPPER = -1.0
"""Priority of an observer that is called after the wrapper's own: before them it would still give the former values."""


class Host(Observers, Protocol):
    """What is needed of the ``ScriptedLoadableModuleWidget``: layout, resource paths, logic, observers."""

    layout: qt.QVBoxLayout
    logic: ModuleLogic

    def resourcePath(self, filename: str) -> str: ...  # noqa: D102

    def addObserver(  # noqa: D102
        self,
        obj: vtk.vtkObject,
        event: int | str,
        method: Callable[[vtk.vtkObject, str], None],
        priority: float = 0.0,
    ) -> None: ...

    def removeObserver(  # noqa: D102
        self, obj: vtk.vtkObject, event: int | str, method: Callable[[vtk.vtkObject, str], None]
    ) -> None: ...

    def removeObservers(self) -> None: ...  # noqa: D102


class ModuleWidget:
    """What the module's widget class consists of.

    Attributes:
        host: See `Host`.
        ui: All widgets of the .ui files by name.
        state: What the sections share.
        chosen: What has been chosen, as far as it takes some thought.
        sections: The sections; None before `setup` and after `cleanup`.
    """

    def __init__(self, host: Host) -> None:
        """Builds nothing yet, see `setup`."""
        self.host = host
        self.ui = SimpleNamespace()
        self.state = PanelState()
        self.chosen = choose(self.state)
        self.sections: Sections | None = None
        self._entered = False
        self._changed = False

    # --- life -------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Loads the .ui files and connects everything; called once."""
        found: dict[str, SimpleNamespace] = {}
        for kind in FILES:
            part = slicer.util.loadUI(self.host.resourcePath(f"UI/{kind.FILE}.ui"))
            self.host.layout.addWidget(part)
            found[kind.FILE] = slicer.util.childWidgetVariables(part)
            vars(self.ui).update(vars(found[kind.FILE]))
            with self.state.quiet():  # selectors choose nodes of themselves as soon as they know the scene
                part.setMRMLScene(slicer.mrmlScene)
        self.host.layout.addStretch(1)
        self.sections = build(found, self.state, self.chosen, self.host.logic, self.host)
        self.state.changed.connect(self.refresh)
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
        for section in self.sections or ():
            section.close()
        self.sections = None
        self.host.removeObservers()
        if self.state.catalog is not None:
            self.state.catalog.close()
        self.host.logic.shutdown()

    def enter(self) -> None:
        """Somebody opens the module."""
        self._entered = True
        if self.sections is None:
            return
        self.sections.install.enter()
        self.sections.model.look_again()
        if self.state.has_scene:
            self.choose_defaults()
            self.refresh()
        else:
            self.use_parameter_node()
        if not self.state.obstacle and self.state.has_scene and not self.chosen.model.reason():
            self.host.logic.warm_up(self.chosen.requests.settings())

    def exit(self) -> None:
        """Somebody opens another module; a run goes on, a live preview does not."""
        self._entered = False
        self._end_watching()

    def _end_watching(self) -> None:
        """No section listens to the views any more."""
        if self.sections is not None:
            self.sections.apply.end_live()
            self.sections.why.stop()

    @property
    def entered(self) -> bool:
        """Whether the module is open; one that was reloaded while it was open is not told so by `enter`."""
        return self._entered or bool(getattr(getattr(self.host, "parent", None), "isEntered", False))

    # --- parameter node ---------------------------------------------------------------------------------------

    def use_parameter_node(self) -> None:
        """Shows and observes the scene's parameter node; makes one where there is none."""
        self.leave_parameter_node()
        node = self.host.logic.getParameterNode()
        self.state.use(ProxyPromptParameters(node))
        self.host.addObserver(node, "ModifiedEvent", self.on_parameters, priority=_AFTER_THE_WRAPPER)
        self.choose_defaults()
        self.refresh()

    def leave_parameter_node(self) -> None:
        """Forgets the parameter node, and what belongs to its scene."""
        if self.state.has_scene:
            self.host.removeObserver(self.state.parameters.parameterNode, "ModifiedEvent", self.on_parameters)
        self.state.leave()

    def choose_defaults(self) -> None:
        """Fills in what is likely meant, where nothing is chosen, to save clicks."""
        if self.sections is None or not self.state.has_scene or slicer.mrmlScene.IsBatchProcessing():
            return
        self.sections.support.choose_defaults()
        self.chosen.target.choose_defaults()

    # --- staying in step --------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Shows the state in all sections."""
        if not self.state.has_scene or self.sections is None:
            return
        if self.state.is_quiet:  # the nodes change while they are shown: once more, afterwards
            self._changed = True
            return
        for _turn in range(3):  # more turns would mean two sections that correct each other
            self._changed = False
            self.chosen.target.look_again()
            with self.state.quiet():
                for section in self.sections:
                    self._refresh(section)
            if not self._changed:
                break

    def _refresh(self, section: Section) -> None:
        """A fault in one section leaves the others usable."""
        try:
            section.refresh()
        except Exception as error:
            say(self.ui.runLabel, explained(error))

    # --- events of the scene ----------------------------------------------------------------------------------

    def on_parameters(self, caller: vtk.vtkObject, event: str) -> None:
        """The parameter node has changed: through us, a script, or an undo."""
        self.refresh()

    def on_scene_start_close(self, caller: vtk.vtkObject, event: str) -> None:
        """Nothing of this scene may be used any more."""
        self._end_watching()
        self.state.run = None
        for label in (self.ui.runLabel, self.ui.supportMessageLabel):  # they tell of what is gone
            say(label, "")
        self.leave_parameter_node()

    def on_scene_end_close(self, caller: vtk.vtkObject, event: str) -> None:
        """An empty scene; with the module open it gets a parameter node at once."""
        if self.entered:
            self.use_parameter_node()

    def on_scene_end_import(self, caller: vtk.vtkObject, event: str) -> None:
        """A scene was loaded, perhaps with a parameter node of its own."""
        self.use_parameter_node()

    def on_node_added(self, caller: vtk.vtkObject, event: str) -> None:
        """A node that was just loaded may be what is needed."""
        if self.entered and self.state.listening and not slicer.mrmlScene.IsBatchProcessing():
            qt.QTimer.singleShot(_AFTER_LOADING_MS, self.choose_defaults)  # its voxels are read after it was added

    def on_node_removed(self, caller: vtk.vtkObject, event: str) -> None:
        """What was chosen may be gone."""
        state = self.state
        if not state.has_scene or slicer.mrmlScene.IsBatchProcessing() or slicer.mrmlScene.IsClosing():
            return
        if state.run is not None and state.run.ended and state.result is None:
            state.run = None
        self.refresh()
