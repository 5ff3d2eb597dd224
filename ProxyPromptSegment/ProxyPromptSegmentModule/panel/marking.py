"""Marks by hand on the selected target, and the run that answers them while they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import qt
import slicer
import vtk

from ProxyPromptSegmentModule.panel.requests import Requests
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.scene.hand_marks import (
    answered_by,
    count_of,
    kind_of,
    marks_of,
    new_mark,
    number_marks,
    object_of,
    remove_marks,
)
from ProxyPromptSegmentModule.scene.mark_boxes import lay_on_slice
from ProxyPromptSegmentModule.scene.placing import Placing
from ProxyPromptSegmentModule.scene.slice_views import slice_on_screen
from ProxyPromptSegmentModule.states import Mark
from ProxyPromptSegmentModule.wording import explained

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.panel.chosen_target import ChosenTarget
    from ProxyPromptSegmentModule.runs.hand_run import HandRun, Said
    from ProxyPromptSegmentModule.runs.pump import Pump

_AFTER_MARKING_MS = 50


class Answers(Protocol):
    """The part of `SegmentationLogic` that answers marks."""

    pump: Pump

    def hand(self, request: Request, said: Said) -> HandRun:
        """Start to answer marks."""

    def look(self, run: HandRun) -> None:
        """Answer marks that were made, moved or removed."""


class Marking:
    """The marks on the selected target; what is placed, moved or removed is answered at once.

    A run answers while something is placed, and ends with it, so that its undo takes back what was marked in between.

    Attributes:
        problem: Why the last marks could not be answered; "" if they could.
    """

    def __init__(self, state: PanelState, requests: Requests, target: ChosenTarget, logic: Answers) -> None:
        """Derive everything from the state and the choices."""
        self._state, self._requests, self._target, self._logic = state, requests, target, logic
        self._placing = Placing(self._when_placing_changed)
        self._run: HandRun | None = None
        self._of: tuple[object, ...] = ()
        self._watched: dict[str, tuple[slicer.vtkMRMLMarkupsNode, list[int]]] = {}
        self._waiting = self._clearing = False
        self.problem = ""

    # --- what is going on -------------------------------------------------------------------------------------

    @property
    def run(self) -> HandRun | None:
        """The run that answers, or has answered last; None before the first."""
        return self._run

    @property
    def answering(self) -> bool:
        """Whether a run answers marks."""
        return self._run is not None and not self._run.ended and self._run is self._state.run

    @property
    def placed(self) -> tuple[Mark, str] | None:
        """What is being placed with the mouse, and the object; None if nothing is."""
        node = self._placing.node
        return None if node is None else (kind_of(node), object_of(node))

    def look_again(self) -> None:
        """Follow the selected target; called at every refresh of the panel."""
        if self._clearing:
            return
        target = self._state.parameters.targetVolume
        of = (target, self._state.prompt_by)
        if of != self._of:  # marks are never carried to another image
            self._of = of
            self.stop()
        nodes = {node.GetID(): node for node in marks_of(slicer.mrmlScene, target)}
        for identifier in [one for one in self._watched if nodes.get(one) is not self._watched[one][0]]:
            self._unwatch(identifier)
            self._answer()
        for identifier, node in nodes.items():
            if identifier not in self._watched:
                events = (node.PointPositionDefinedEvent, node.PointRemovedEvent, node.PointEndInteractionEvent)
                self._watched[identifier] = (node, [node.AddObserver(event, self._when_marked) for event in events])
        run = self._run
        if run is not None and run.segmentation is not None:
            answered_by(list(nodes.values()), run.segmentation)

    # --- what the user does -----------------------------------------------------------------------------------

    def start(self, kind: Mark, name: str) -> None:
        """Place marks of a kind on an object with the mouse; the same again ends that.

        Raises:
            ProxyPromptError: If the choices are not usable.
        """
        target = self._state.parameters.targetVolume
        if target is None or self.placed == (kind, name):
            self.stop()
            return
        node = new_mark(target, kind, name)
        self.look_again()
        self._begin()
        self._placing.start(node, again=kind != Mark.BOX)
        self._state.changed.emit()

    def stop(self) -> None:
        """End placing; what was marked is answered, and the run ends."""
        self._placing.stop()
        self._finish()

    def changed(self) -> None:
        """Answer marks that were changed by the panel."""
        self._waiting = False
        target = self._state.parameters.targetVolume
        if target is not None:
            number_marks(slicer.mrmlScene, target)
        self._answer()

    def clear(self, target: slicer.vtkMRMLVolumeNode) -> None:
        """Remove all marks on a target; what they made is kept."""
        self.stop()
        self._waiting, self._clearing = False, True
        try:
            for identifier in list(self._watched):
                self._unwatch(identifier)
            remove_marks(slicer.mrmlScene, target)
        finally:
            self._clearing = False

    def close(self) -> None:
        """Stop everything; called when the module is unloaded or the scene is closed."""
        self._placing.close()
        self._finish()
        for identifier in list(self._watched):
            self._unwatch(identifier)

    # --- the run ----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start a run for the current choices, unless one answers already."""
        if self.answering and self._run is not None and self._fits(self._run):
            return
        self._finish()
        request = self._requests.marking()
        self._run = run = self._logic.hand(request, self._requests.said)
        self._state.run = run
        self._state.run_began.emit()

    def _fits(self, run: HandRun) -> bool:
        """Return whether a run can answer marks on all objects that there are now."""
        if run.closing:
            return False
        names = set(self._requests.names_to_mark())
        return run.request.target is self._state.parameters.targetVolume and names <= set(run.request.objects or ())

    def _answer(self) -> None:
        """Answer what is said now; without an open run one is started for this answer."""
        if self._requests.reason_to_mark():
            return
        self._begin()
        if self._run is not None and not self._run.ended:
            self._logic.look(self._run)
        if self.placed is None:
            self._finish()

    def _finish(self) -> None:
        """Let the run end after what is still to be answered."""
        if self._run is not None and not self._run.ended:
            self._run.close()
            self._logic.pump.start()

    # --- events of the scene ----------------------------------------------------------------------------------

    def _when_marked(self, caller: vtk.vtkObject, event: str) -> None:
        """Answer after the event: a node must not be changed while it tells of a change."""
        if not self._waiting:
            self._waiting = True
            qt.QTimer.singleShot(_AFTER_MARKING_MS, self._marked)

    def _marked(self) -> None:
        if not self._waiting:  # answered, or cleared, since
            return
        self._waiting = False
        target = self._state.parameters.targetVolume if self._state.has_scene else None
        if target is None or slicer.mrmlScene.IsClosing():
            return
        axis = self._target.axis()
        index = slice_on_screen(slicer.mrmlScene, target, axis)
        for node in marks_of(slicer.mrmlScene, target):
            if kind_of(node) == Mark.BOX and count_of(node) and index is not None:
                lay_on_slice(node, target, axis, index)
        self.problem = ""
        try:
            self.changed()
        except Exception as error:  # a timer has nobody to tell
            self.problem = explained(error)
        self._state.changed.emit()

    def _when_placing_changed(self) -> None:
        """End the run when the user has left the place mode, also by the application's own buttons."""
        if self._placing.node is None and self.answering and not self._waiting:
            qt.QTimer.singleShot(_AFTER_MARKING_MS, self._left)

    def _left(self) -> None:
        if self._state.has_scene and self._placing.node is None:
            self._finish()
            self._state.changed.emit()

    def _unwatch(self, identifier: str) -> None:
        node, tags = self._watched.pop(identifier)
        for tag in tags:
            node.RemoveObserver(tag)
