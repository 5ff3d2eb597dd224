"""Watches the results in a scene, so that their tables follow what is in the segments."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import slicer
import vtk

from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.case_briefs import update_briefs
from ProxyPromptSegmentModule.scene.case_states import update_states
from ProxyPromptSegmentModule.scene.dicom_tags import update_types
from ProxyPromptSegmentModule.scene.facts import read_facts, table_of_all
from ProxyPromptSegmentModule.scene.nodes import in_scene, nodes_of
from ProxyPromptSegmentModule.scene.owners import claim_earlier, result_segments, volumes_of
from ProxyPromptSegmentModule.scene.segment_state import SegmentStates

if TYPE_CHECKING:
    MakeTimer = Callable[[Callable[[], None]], "Timer | None"]


_MOMENT = 0.02  # seconds


class Timer(Protocol):
    """A timer that calls a function once changes have come to rest."""

    def start(self) -> None:
        """Wait again from now on."""

    def soon(self) -> None:
        """Call the function in the next turn of the window."""

    def after_rendering(self) -> None:
        """Call the function once the views have rendered what was just changed."""

    def close(self) -> None:
        """Stop and delete the timer."""


class ResultWatch:
    """An observer of all segmentations of a scene that rewrites the tables of results after changes, until `close`.

    Attributes:
        states: What the segments hold, for everything that shows or uses it.
    """

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        is_written: Callable[[slicer.vtkMRMLSegmentationNode], bool],
        make_timer: MakeTimer,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """Observe a scene.

        Args:
            scene: The scene.
            is_written: Whether a run is writing into a segmentation; its table waits for the end of the run then.
            make_timer: Makes the timer after which changes are looked at; None where there is none (scripts, tests).
            is_busy: Whether the main thread has other work that the user waits for; tables wait for its end.
        """
        self.states = SegmentStates()
        self._scene, self._is_written, self._is_busy = scene, is_written, is_busy
        self._told: list[Callable[[], None]] = []
        self._tags: list[tuple[vtk.vtkObject, int]] = []
        self._watched: dict[str, list[tuple[vtk.vtkObject, int]]] = {}
        self._dirty: set[str] = set()
        self._half_read = self._written = False
        self._timer: Timer | None = make_timer(self._at_rest)
        event = slicer.vtkMRMLScene
        for which, called in (
            (event.NodeAddedEvent, self._on_nodes),
            (event.NodeRemovedEvent, self._on_nodes),
            (event.EndImportEvent, self._on_import),
        ):
            self._tags.append((scene, scene.AddObserver(which, called)))
        self._on_import()

    def observe(self, told: Callable[[], None]) -> None:
        """Call a function after results have changed and their tables were rewritten."""
        self._told.append(told)

    def update(self, segmentation: slicer.vtkMRMLSegmentationNode) -> None:
        """Rewrite table and case states of a segmentation; the table is removed if there are no results any more."""
        self._dirty.discard(segmentation.GetID())
        if volumes_of(segmentation):
            result_nodes.write_table(segmentation, table_of_all(segmentation, self.states))
            before = segmentation.StartModify()  # the views follow each event: 15 ms with 300 slices of 512 x 512
            try:
                update_states(segmentation, self.states)
                update_briefs(segmentation, self.states)
            finally:
                segmentation.EndModify(before)
            update_types(segmentation, self.states)

    def _at_rest(self) -> None:
        """Rewrite tables for a moment; the others wait for the next one, so that a long list is not felt."""
        if self._is_busy() and self._timer is not None:
            self._timer.start()
            return
        if self._written:
            self._tell()
        else:
            self._write(_MOMENT)
        if self._written and self._timer is not None:
            self._timer.after_rendering()  # not all in one turn: the panel follows for 25 ms, and the views render
            return
        if self._half_read and self._timer is not None:
            self._timer.soon()
            return
        nodes = [self._scene.GetNodeByID(one) for one in self._dirty] if not self._scene.IsClosing() else []
        if self._timer is not None and any(node is not None and not self._is_written(node) for node in nodes):
            self._timer.start()

    def refresh(self, seconds: float = math.inf) -> None:
        """Rewrite the tables of all results that have changed, except those that a run is writing into.

        Args:
            seconds: After which time no other table is begun, and no other slice read.
        """
        self._write(seconds)
        if self._written:
            self._tell()

    def _tell(self) -> None:
        self._written = False
        for told in list(self._told):
            told()

    def _write(self, seconds: float) -> None:
        until, self._half_read = time.perf_counter() + seconds, False
        if self._scene.IsClosing():
            return
        for identifier in list(self._dirty):
            node: slicer.vtkMRMLSegmentationNode | None = self._scene.GetNodeByID(identifier)
            if node is None or not in_scene(node):
                self._dirty.discard(identifier)
            elif not self._is_written(node):
                self._half_read = not self._is_read(node, until)
                if self._half_read:
                    break
                self.update(node)
                self._written = True
                if time.perf_counter() > until:
                    break

    def _is_read(self, segmentation: slicer.vtkMRMLSegmentationNode, until: float) -> bool:
        """Read what the results of a segmentation hold, until a time; 300 slices of 512 x 512 take 60 ms."""
        return all(
            self.states.read_some(segmentation, one, volume, read_facts(segmentation, volume).axis, until)
            for volume in volumes_of(segmentation)
            for one in result_segments(segmentation, volume)
        )

    def forget(self) -> None:
        """Forget all changes, because the scene is being closed: a table written now would stay in the next scene."""
        self._dirty.clear()
        self._written = False
        self.states.forget()

    def tick(self) -> None:
        """Rewrite the tables that wait, where no timer does it (scripts, tests)."""
        if self._timer is None and self._dirty:
            self.refresh()

    def close(self) -> None:
        """Stop observing."""
        for tags in (self._tags, *self._watched.values()):
            for one, tag in tags:
                one.RemoveObserver(tag)
        self._tags, self._watched, self._told = [], {}, []
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    # --- events -------------------------------------------------------------------------------------------------

    def _watch_all(self) -> None:
        for node in nodes_of(self._scene, slicer.vtkMRMLSegmentationNode):
            self._watch(node)

    def _watch(self, node: slicer.vtkMRMLSegmentationNode) -> None:
        if node.GetID() not in self._watched:
            events, identifier = slicer.vtkSegmentation, node.GetID()

            def changed(caller: vtk.vtkObject, event: str) -> None:
                if self._scene.IsClosing():
                    return
                self._dirty.add(identifier)
                if self._timer is not None:
                    self._timer.start()

            self._watched[node.GetID()] = [
                (node, node.AddObserver(event, changed))
                for event in (
                    events.SourceRepresentationModified,
                    events.SegmentAdded,
                    events.SegmentRemoved,
                    events.SegmentModified,
                )
            ]

    def _on_import(self, caller: vtk.vtkObject | None = None, event: str = "") -> None:
        self._on_nodes(caller, event)
        for node in nodes_of(self._scene, slicer.vtkMRMLSegmentationNode):  # only now references are those of the scene
            claim_earlier(node)
            if volumes_of(node):  # it may have been changed while nobody watched: its table and states are checked
                self._dirty.add(node.GetID())
        if self._dirty and self._timer is not None:
            self._timer.start()

    def _on_nodes(self, caller: vtk.vtkObject | None, event: str) -> None:
        for identifier in [one for one in self._watched if self._scene.GetNodeByID(one) is None]:
            for node, tag in self._watched.pop(identifier):
                node.RemoveObserver(tag)
        self._watch_all()
