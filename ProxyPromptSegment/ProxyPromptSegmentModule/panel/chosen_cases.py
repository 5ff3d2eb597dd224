"""The cases of the scene, with what is known of each, and which of them are segmented together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentLib.cohort.rows import State
from ProxyPromptSegmentLib.cohort.studies import shown
from ProxyPromptSegmentModule.panel.chosen_target import ChosenTarget
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.runs.folder_studies import STATES, FolderStudies
from ProxyPromptSegmentModule.runs.studies import Studies, StudiesRequest
from ProxyPromptSegmentModule.scene.annotated import patient_name_of
from ProxyPromptSegmentModule.scene.case_briefs import Found, briefs_in
from ProxyPromptSegmentModule.scene.case_states import states_in
from ProxyPromptSegmentModule.scene.sequence_reader import browsers_of
from ProxyPromptSegmentModule.states import CaseState, StudyState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.cohort.rows import Row
    from ProxyPromptSegmentModule.panel.open_folder import OpenFolder
    from ProxyPromptSegmentModule.runs.request import Request

_FIRST = {
    StudyState.FAILED: 0,
    StudyState.EMPTY: 1,
    StudyState.INCOMPLETE: 2,
    StudyState.RUNNING: 5,
    StudyState.WAITING: 6,
    StudyState.LEFT_OUT: 7,
}
_SEGMENTED, _ACCEPTED, _NEW = 3, 4, 6


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case of the list.

    Attributes:
        key: Id of its image; of a study of a folder its path.
        name: Name of its image, or of the study.
        node_id: Id of its image in the scene; "" for a study of a folder that is not there.
        state: Its state.
        study: What became of it among studies that are segmented together; None if it is not among them, or if it was
            corrected or accepted since.
        reason: Why it failed, or was not segmented.
        patient: Name of its patient, if the subject hierarchy has one.
        found: What was found in it.
        ticked: Whether it is segmented together with others.
        unsaved: Whether its result in the scene is not what the folder of results has.
    """

    key: str
    name: str
    state: CaseState
    node_id: str = ""
    study: StudyState | None = None
    reason: str = ""
    patient: str = ""
    found: tuple[Found, ...] = ()
    ticked: bool = True
    unsaved: bool = False

    @property
    def attention(self) -> tuple[int, float]:
        """How soon a human should look at it: what failed, what was not found, the least sure first."""
        sure = min((one.confidence for one in self.found if one.confidence is not None), default=1.0)
        if self.study in _FIRST:
            return _FIRST[self.study], sure
        rank = {CaseState.NEW: _NEW, CaseState.ACCEPTED: _ACCEPTED}.get(self.state, _SEGMENTED)
        return rank, sure


class ChosenCases:
    """The cases of the list, derived from the scene and the studies that are segmented together."""

    def __init__(self, state: PanelState, target: ChosenTarget) -> None:
        """Derive everything from the panel's state."""
        self._state, self._target = state, target
        self._unticked: set[str] = set()
        self._order: list[str] = []

    def forget(self) -> None:
        """Forget what belongs to a scene."""
        self._unticked, self._order = set(), []

    def cases(self) -> list[Case]:
        """Return all cases: in the order to look at once studies were segmented, else in the order of the scene."""
        states, briefs = states_in(slicer.mrmlScene), briefs_in(slicer.mrmlScene)
        folder = self._state.folder
        if folder is not None:
            found = [self._study(folder, row, states) for row in folder.rows.values()]
        else:
            found = [self._case(node, states, briefs) for node in self._volumes(states)]
        place = {key: number for number, key in enumerate(self._order)}
        return sorted(found, key=lambda case: place.get(case.key, len(place)))

    def sort(self) -> None:
        """Put the cases into the order to look at; they stay in it, so that nothing jumps while they are reviewed."""
        self._order = [case.key for case in sorted(self.cases(), key=lambda case: case.attention)]

    def _volumes(self, known: dict[str, CaseState]) -> list[slicer.vtkMRMLVolumeNode]:
        """Return the images beside supports, those that have results, and the target."""
        volumes: dict[str, slicer.vtkMRMLVolumeNode] = {
            node.GetID(): node for node in self._target.volumes_beside_supports()
        }
        for identifier in known:
            node: slicer.vtkMRMLVolumeNode | None = slicer.mrmlScene.GetNodeByID(identifier)
            if node is not None:
                volumes.setdefault(identifier, node)
        target = self._state.parameters.targetVolume
        if target is not None and target.GetImageData() is not None:
            volumes.setdefault(target.GetID(), target)
        return list(volumes.values())

    def _case(
        self, node: slicer.vtkMRMLVolumeNode, states: dict[str, CaseState], briefs: dict[str, tuple[Found, ...]]
    ) -> Case:
        key = node.GetID()
        state = states.get(key, CaseState.NEW)
        together = self._state.studies
        study = together.of(key) if isinstance(together, Studies) else None
        seen = state in (CaseState.CORRECTED, CaseState.ACCEPTED) and study is not None and not study.state.open
        return Case(
            key=key,
            node_id=key,
            name=node.GetName(),
            state=state,
            study=None if study is None or seen else study.state,
            reason="" if study is None or seen else study.reason,
            patient=patient_name_of(node),
            found=briefs.get(key, ()),
            ticked=key not in self._unticked,
        )

    def _study(self, folder: OpenFolder, row: Row, states: dict[str, CaseState]) -> Case:
        """Return the case of a study of a folder."""
        together, path = self._state.studies, row.study.path
        node = folder.node_of(path)
        study = STATES.get(row.state)
        reason = row.reason
        if isinstance(together, FolderStudies) and path not in together.request.left_out:
            study, reason = together.shown_state_of(row), together.reason_of(row)
        state = CaseState.SEGMENTED if row.facts else CaseState.NEW
        if row.state is State.CORRECTED:
            state = CaseState.CORRECTED
        if node is not None and states.get(node.GetID(), state) is not CaseState.NEW:
            state = states.get(node.GetID(), state)
        seen = state in (CaseState.CORRECTED, CaseState.ACCEPTED)
        found = [
            Found(name=str(one.get("name")), volume_ml=one.get("volume_ml") or 0, confidence=one.get("mean_confidence"))
            for one in row.objects
        ]
        return Case(
            key=str(path),
            node_id=node.GetID() if node is not None else "",
            name=shown(row.study.name),
            state=state,
            study=None if seen else study,
            reason="" if seen else reason,
            found=tuple(found),
            ticked=str(path) not in self._unticked,
            unsaved=row.state.is_done and folder.is_unsaved(path, self._state.states),
        )

    def want(self, case: Case) -> None:
        """Ask for a study of the folder to be shown."""
        if self._state.folder is not None:
            self._state.folder.wanted = Path(case.key)
            self._state.study_wanted.emit()

    # --- to segment them all ----------------------------------------------------------------------------------

    def tick(self, shown: Sequence[str], keys: Sequence[str]) -> None:
        """Store which of the cases that are shown are ticked."""
        self._unticked = (self._unticked - set(shown)) | (set(shown) - set(keys))

    def ticked(self) -> list[Case]:
        """Return the cases that are segmented together."""
        return [case for case in self.cases() if case.ticked]

    def supports(self) -> list[str]:
        """Return the names of the images of supports, which are not segmented."""
        ids = dict.fromkeys(row.volume_id for row in self._state.support_rows() if row.volume_id)
        nodes = [slicer.mrmlScene.GetNodeByID(one) for one in ids]
        return [node.GetName() for node in nodes if node is not None]

    def request(self, request_of: Callable[[slicer.vtkMRMLVolumeNode], Request]) -> StudiesRequest:
        """Return the request to segment the ticked cases, of which there has to be one.

        Args:
            request_of: Returns the request of one of them.

        Raises:
            ProxyPromptError: If a support cannot be read.
        """
        supports = {row.volume_id for row in self._state.support_rows()}
        targets, left_out = [], {}
        for case in self.ticked():
            node: slicer.vtkMRMLVolumeNode | None = slicer.mrmlScene.GetNodeByID(case.key)
            if node is None:
                continue
            targets.append(node)
            if case.key in supports:
                left_out[case.key] = _("it is the image of a support")
            elif case.state is CaseState.ACCEPTED:
                left_out[case.key] = _("its result was accepted; take that back to segment it again")
            elif browsers_of(node):
                left_out[case.key] = _("it is part of a sequence; make it the target and choose “Whole sequence”")
        return StudiesRequest(targets=tuple(targets), base=request_of(targets[0]), left_out=left_out)
