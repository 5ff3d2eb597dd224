"""The panel: loads the .ui files and synchronises the sections with the parameter node and the scene."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Protocol

import qt
import slicer
import slicer.util
import vtk

from ProxyPromptSegmentModule.panel.assembly import FILES, Sections, build, choose
from ProxyPromptSegmentModule.panel.case_watch import CaseWatch
from ProxyPromptSegmentModule.panel.fitted_frame import FittedFrame
from ProxyPromptSegmentModule.panel.lesson_words import words_of_end
from ProxyPromptSegmentModule.panel.name_watch import NameWatch
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.target_section import Observers
from ProxyPromptSegmentModule.parameters import ProxyPromptParameters
from ProxyPromptSegmentModule.scene.hand_marks import forget_lost
from ProxyPromptSegmentModule.wording import explained, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from ProxyPromptSegmentModule.logic import SegmentationLogic

    class ModuleLogic(SegmentationLogic):
        """The module's logic with what Slicer's own class adds."""

        def getParameterNode(self) -> slicer.vtkMRMLScriptedModuleNode: ...  # noqa: D102


_AFTER_LOADING_MS = 200
_AFTER_THE_WRAPPER = -1.0
"""Priority of observers that run after the wrapper's own; before those, the wrapper still returns the old values."""


class Host(Observers, Protocol):
    """The part of ``ScriptedLoadableModuleWidget`` that the panel uses: layout, resource paths, logic, observers."""

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
    """The panel behind the module's widget class.

    Attributes:
        host: See `Host`.
        ui: All widgets of the .ui files by name.
        state: The shared state of the sections.
        chosen: The choices that are derived from the state, see `Chosen`.
        sections: The sections; None before `setup` and after `cleanup`.
    """

    def __init__(self, host: Host) -> None:
        """Store the host; `setup` builds the panel."""
        self.host = host
        self.ui = SimpleNamespace()
        self.state = PanelState(host.logic.results.states)
        self.chosen = choose(self.state)
        self.sections: Sections | None = None
        self._cases, self._names = CaseWatch(self.state), NameWatch(self.state)
        self._frame: FittedFrame | None = None
        self._entered = False
        self._changed = False

    # --- life -------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Load the .ui files and connect everything; called once."""
        found: dict[str, SimpleNamespace] = {}
        self._frame = FittedFrame()
        for kind in FILES:
            part = slicer.util.loadUI(self.host.resourcePath(f"UI/{kind.FILE}.ui"))
            self._frame.layout.addWidget(part)
            found[kind.FILE] = slicer.util.childWidgetVariables(part)
            vars(self.ui).update(vars(found[kind.FILE]))
            with self.state.quiet():  # selectors select a node on their own as soon as they have a scene
                part.setMRMLScene(slicer.mrmlScene)
        self._frame.layout.addStretch(1)
        self.host.layout.addWidget(self._frame.frame)
        self.sections = build(found, self.state, self.chosen, self.host.logic, self.host)
        self.state.changed.connect(self.refresh)
        scene, event = slicer.mrmlScene, slicer.vtkMRMLScene
        self.host.addObserver(scene, event.StartCloseEvent, self.on_scene_start_close)
        self.host.addObserver(scene, event.EndCloseEvent, self.on_scene_end_close)
        self.host.addObserver(scene, event.EndImportEvent, self.on_scene_end_import)
        self.host.addObserver(scene, event.NodeAddedEvent, self.on_node_added)
        self.host.addObserver(scene, event.NodeRemovedEvent, self.on_node_removed)
        self.host.logic.results.observe(self.on_segments)
        self.use_parameter_node()

    def cleanup(self) -> None:
        """Stop everything that is running; called when the module is unloaded or Slicer exits."""
        self.leave_parameter_node()
        for section in self.sections or ():
            section.close()
        self.sections = None
        if self._frame is not None:
            self._frame.close()
        self._cases.stop()
        self._names.stop()
        self.host.removeObservers()
        if self.state.catalog is not None:
            self.state.catalog.close()
        self.host.logic.shutdown()

    def enter(self) -> None:
        """Update the panel when the module is opened, and load the model in advance."""
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
        """End the live preview when another module is opened; a run continues."""
        self._entered = False
        self._end_watching()

    def _end_watching(self) -> None:
        """Stop all sections that observe the slice views."""
        if self.sections is not None:
            self.sections.apply.end_live()
            self.sections.why.stop()
            self.sections.correct.leave()

    @property
    def entered(self) -> bool:
        """Whether the module is open; after a reload of an open module, `enter` is not called."""
        return self._entered or bool(getattr(getattr(self.host, "parent", None), "isEntered", False))

    # --- parameter node ---------------------------------------------------------------------------------------

    def use_parameter_node(self) -> None:
        """Show and observe the scene's parameter node; create one if there is none."""
        self.leave_parameter_node()
        node = self.host.logic.getParameterNode()
        self.state.use(ProxyPromptParameters(node))
        self.host.addObserver(node, "ModifiedEvent", self.on_parameters, priority=_AFTER_THE_WRAPPER)
        self.choose_defaults()
        self.refresh()

    def leave_parameter_node(self) -> None:
        """Forget the parameter node and the state that belongs to its scene."""
        if self.state.has_scene:
            self.host.removeObserver(self.state.parameters.parameterNode, "ModifiedEvent", self.on_parameters)
        self.state.leave()

    def choose_defaults(self) -> None:
        """Fill in likely choices where nothing is chosen, to save clicks."""
        if self.sections is None or not self.state.has_scene or slicer.mrmlScene.IsBatchProcessing():
            return
        self.sections.support.choose_defaults()
        self.chosen.target.choose_defaults()

    # --- staying in step --------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the state in all sections."""
        if not self.state.has_scene or self.sections is None:
            return
        if self.state.is_quiet:  # a node changed during a refresh: repeat it afterwards
            self._changed = True
            return
        for _turn in range(3):  # more turns would mean two sections that correct each other
            self._changed = False
            self.chosen.target.look_again()
            with self.state.quiet(), self.state.same_rows():
                for section in self.sections:
                    self._refresh(section)
            if not self._changed:
                break
        if not slicer.mrmlScene.IsBatchProcessing():
            self._cases.look_again()
            self._names.look_again()

    def _refresh(self, section: Section) -> None:
        """Refresh one section; an error in it leaves the others usable."""
        try:
            section.refresh()
        except Exception as error:
            say(self.ui.runLabel, explained(error))

    # --- events of the scene ----------------------------------------------------------------------------------

    def on_parameters(self, caller: vtk.vtkObject, event: str) -> None:
        """Refresh after a change of the parameter node, by the panel, a script or an undo."""
        self.refresh()

    def on_scene_start_close(self, caller: vtk.vtkObject, event: str) -> None:
        """Drop everything that belongs to the scene that is being closed."""
        self._end_watching()
        if self.sections is not None:
            self.sections.correct.forget()
            self.sections.hand.close()
        self._cases.stop()
        self._names.stop()
        self.state.run = None
        self.chosen.lesson.forget()
        self.chosen.cases.forget()
        # they describe nodes that are removed
        for label in (self.ui.runLabel, self.ui.supportMessageLabel, self.ui.casesMessageLabel):
            say(label, "")
        self._leave_lesson()
        self.leave_parameter_node()

    def _leave_lesson(self) -> None:
        """Say what became of a lesson that the closing of its scene has ended."""
        lesson = self.state.lesson
        say(self.ui.teachMessageLabel, words_of_end(lesson) if lesson is not None and lesson.abandoned else "")

    def on_scene_end_close(self, caller: vtk.vtkObject, event: str) -> None:
        """Create a parameter node in the new, empty scene if the module is open."""
        if self.entered:
            self.use_parameter_node()

    def on_scene_end_import(self, caller: vtk.vtkObject, event: str) -> None:
        """Use the parameter node of a scene that was loaded."""
        self.use_parameter_node()

    def on_node_added(self, caller: vtk.vtkObject, event: str) -> None:
        """Offer a node that was just loaded as a default choice."""
        if self.entered and self.state.listening and not slicer.mrmlScene.IsBatchProcessing():
            qt.QTimer.singleShot(_AFTER_LOADING_MS, self.choose_defaults)  # its voxels are read after it was added

    def on_segments(self) -> None:
        """Follow segmentations that were changed, or loaded, from elsewhere."""
        if self.entered and self.state.listening:
            self.choose_defaults()
        self.refresh()

    def on_node_removed(self, caller: vtk.vtkObject, event: str) -> None:
        """Refresh, because a chosen node may have been removed."""
        state = self.state
        if not state.has_scene or slicer.mrmlScene.IsBatchProcessing() or slicer.mrmlScene.IsClosing():
            return
        state.forget_removed()
        forget_lost(slicer.mrmlScene)
        self.refresh()
