"""The state that the panel's sections share, and the signals by which they notify each other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentModule.models.catalog import ModelCatalog
from ProxyPromptSegmentModule.parameters import ProxyPromptParameters
from ProxyPromptSegmentModule.scene.nodes import in_scene
from ProxyPromptSegmentModule.scene.owners import result_segments, results_of
from ProxyPromptSegmentModule.scene.segment_state import SegmentStates
from ProxyPromptSegmentModule.states import PromptBy
from ProxyPromptSegmentModule.supports.table import SupportTable
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentModule.models.catalog import ModelCatalog
    from ProxyPromptSegmentModule.panel.open_folder import OpenFolder
    from ProxyPromptSegmentModule.runs.lesson import Lesson
    from ProxyPromptSegmentModule.runs.run import Run
    from ProxyPromptSegmentModule.runs.study_list import StudyList
    from ProxyPromptSegmentModule.supports.saved import SupportRow
    from ProxyPromptSegmentModule.supports.table import SupportTable

_log = logging.getLogger(__name__)


class Signal:
    """An event and the functions to call when it happens."""

    def __init__(self) -> None:
        """Create a signal without functions."""
        self._slots: list[Callable[[], None]] = []

    def connect(self, slot: Callable[[], None]) -> None:
        """Add a function; functions are called in the order of their connection."""
        self._slots.append(slot)

    def emit(self) -> None:
        """Call all connected functions."""
        for slot in list(self._slots):
            slot()


class PanelState:
    """The shared state of the panel; `assembly` connects its signals.

    Attributes:
        states: What the segments of the scene hold; the logic's.
        table: The supports of the scene; None until the required packages are installed.
        library: The user's support library; None until then, too.
        catalog: The models; None until then, too.
        selected: Key of the selected support; "" if none is selected.
        missing: Packages that have to be installed, as requirements.
        changed: The state has changed and has to be shown.
        choice_changed: Other objects or supports were chosen; the result may be updated.
        support_added: A support was added.
        support_selected: Another support was selected in the table.
        run_began: A run that answers marks, or finds everything, has begun; it is `run`.
        scope_leaving: Another scope is about to be chosen.
        models_changed: A model was made, imported, renamed or removed.
        apply_wanted: Something else than the button asks for a run.
        lesson_changed: The lesson has advanced or ended.
        lesson: The latest lesson; None before the first and after a scene was closed.
        studies: The latest studies that are segmented together; None before, and after a scene was closed.
        folder: The folder of studies that is open; None if the list of cases shows the images of the scene.
        study_wanted: A study of the folder is to be shown.
        installed: Packages were installed.
    """

    def __init__(self, states: SegmentStates) -> None:
        """Create the state without a scene."""
        self.states = states
        self.table: SupportTable | None = None
        self.library: SupportLibrary | None = None
        self.catalog: ModelCatalog | None = None
        self._replace_in: tuple[object, ...] | None = None
        self._runs: list[Run] = []
        self.selected = ""
        self.missing: list[str] = []
        self.changed = Signal()
        self.choice_changed = Signal()
        self.support_added = Signal()
        self.support_selected = Signal()
        self.run_began = Signal()
        self.scope_leaving = Signal()
        self.installed = Signal()
        self.models_changed = Signal()
        self.apply_wanted = Signal()
        self.lesson_changed = Signal()
        self.lesson: Lesson | None = None
        self.studies: StudyList | None = None
        self.folder: OpenFolder | None = None
        self.study_wanted = Signal()
        self._parameters: ProxyPromptParameters | None = None
        self._quiet = 0
        self._keeps_rows = False
        self._rows: list[SupportRow] | None = None

    # --- the parameter node -----------------------------------------------------------------------------------

    @property
    def has_scene(self) -> bool:
        """Whether there is a parameter node; False while a scene is being closed."""
        return self._parameters is not None

    @property
    def parameters(self) -> ProxyPromptParameters:
        """The choices of the scene.

        Raises:
            RuntimeError: If `has_scene` is False.
        """
        if self._parameters is None:
            raise RuntimeError("the scene is being closed and has no parameter node")
        return self._parameters

    @property
    def prompt_by(self) -> PromptBy:
        """What tells the model what to segment; a scene of a later version may say what is not known here."""
        chosen = self.parameters.promptBy
        return PromptBy(chosen) if chosen in tuple(PromptBy) else PromptBy.SUPPORT

    def use(self, parameters: ProxyPromptParameters) -> None:
        """Use the choices of a scene."""
        self._parameters = parameters
        self.equip()

    def leave(self) -> None:
        """Forget the choices and everything that belongs to their scene."""
        self._parameters, self.table, self.lesson, self.studies, self.folder = None, None, None, None, None

    def equip(self) -> None:
        """Create table, library and catalogue as far as their packages are installed; called again after installing."""
        try:
            self.library = self.library or SupportLibrary()
            self.catalog = self.catalog or ModelCatalog()
            if self.table is None and self._parameters is not None:
                self.table = SupportTable(self._parameters.parameterNode, self.library)
        except ImportError as error:
            _log.info("not installed yet: %s", error)

    @property
    def obstacle(self) -> str:
        """Why nothing can run yet; "" if it can."""
        if not self.missing:
            return ""
        names = {line.split(">")[0].split("=")[0].strip() for line in self.missing}
        what = _("PyTorch is") if "torch" in names else _("Some packages are")
        return _("{what} not installed yet. Press Install at the top; it asks before it installs anything.").format(
            what=what
        )

    @property
    def teaching(self) -> str:
        """Why nothing can be computed while a model is taught; "" if none is."""
        if self.lesson is None or self.lesson.ended:
            return ""
        return _("A model is being taught; wait for it, or cancel it under Teach.")

    @property
    def segmenting(self) -> str:
        """Why nothing else can be segmented while many studies are; "" if none are."""
        if self.studies is None or self.studies.ended:
            return ""
        return _("Several cases are being segmented; wait for them, or cancel them under Cases.")

    # --- an answer of the user --------------------------------------------------------------------------------

    @property
    def replace_changed(self) -> bool:
        """Whether the next run also replaces slices that were changed by hand: only where the user was asked."""
        return self._replace_in is not None and self._replace_in == self._place()

    @replace_changed.setter
    def replace_changed(self, replace: bool) -> None:
        """Store the answer for the selected target and its output; both have to be the same when it is used."""
        self._replace_in = self._place() if replace else None

    def _place(self) -> tuple[object, ...] | None:
        """Return the selected target and output; None without a scene."""
        if not self.has_scene:
            return None
        return (self.parameters.targetVolume, self.parameters.outputSegmentation)

    # --- who speaks -------------------------------------------------------------------------------------------

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Mark signals of widgets during the block as caused by the panel, not by the user."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1

    @property
    def is_quiet(self) -> bool:
        """Whether the panel is changing its widgets."""
        return self._quiet > 0

    @property
    def listening(self) -> bool:
        """Whether signals of widgets come from the user and the choices can be stored."""
        return not self._quiet and self.has_scene

    # --- supports and result ----------------------------------------------------------------------------------

    def support_rows(self) -> list[SupportRow]:
        """Return all supports of the scene."""
        if self._rows is None:
            rows = self.table.rows() if self.table is not None else []
            if not self._keeps_rows:
                return rows
            self._rows = rows
        return list(self._rows)

    @contextmanager
    def same_rows(self) -> Iterator[None]:
        """Read the supports once for the block, in which all sections are shown and none of them changes."""
        self._keeps_rows = True
        try:
            yield
        finally:
            self._keeps_rows, self._rows = False, None

    def used_rows(self) -> list[SupportRow]:
        """Return the ticked supports that have no problem."""
        return [row for row in self.support_rows() if row.ready]

    def selected_row(self) -> SupportRow | None:
        """Return the selected support, or None."""
        return next((row for row in self.support_rows() if row.key == self.selected), None)

    @property
    def run(self) -> Run | None:
        """The latest run; None before the first and after a scene was closed."""
        return self._runs[-1] if self._runs else None

    @run.setter
    def run(self, run: Run | None) -> None:
        """Add a run, or forget all runs."""
        if run is None:
            self._runs.clear()
            return
        # Only the last run of a segmentation can be undone.
        self._runs = [one for one in self._runs if one is not run and in_scene(one.segmentation)] + [run]

    def learn_run(self, run: Run) -> bool:
        """Add a run that has ended, if its result is in the scene; return whether it was not known."""
        if run in self._runs or not in_scene(run.segmentation):
            return False
        self.run = run
        return True

    def forget_removed(self) -> None:
        """Forget the runs that have ended and whose result was removed from the scene."""
        self._runs = [run for run in self._runs if not run.ended or in_scene(run.segmentation)]

    @property
    def running(self) -> bool:
        """Whether a run is in progress."""
        return self.run is not None and not self.run.ended

    @property
    def segmentation(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The segmentation that holds the result of the selected target; None if there is none."""
        target = self.parameters.targetVolume if self.has_scene else None
        if target is None:
            return None
        chosen = self.parameters.outputSegmentation
        if chosen is not None and result_segments(chosen, target):
            return chosen
        for run in reversed(self._runs):
            if run.request.target is target and in_scene(run.segmentation):
                return run.segmentation
        return next(reversed(results_of(slicer.mrmlScene, target)), None)

    @property
    def result(self) -> Run | None:
        """The run that made the result of the selected target; None before its end, or if the run is not known."""
        target, node = self.parameters.targetVolume if self.has_scene else None, self.segmentation
        if node is None:
            return None
        found = next((run for run in reversed(self._runs) if run.segmentation is node), None)
        return found if found is not None and found.ended and found.request.target is target else None
