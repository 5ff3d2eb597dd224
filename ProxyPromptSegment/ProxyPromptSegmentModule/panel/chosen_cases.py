"""The cases of the scene, with what is known of each, and which of them are segmented together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentModule.panel.chosen_target import ChosenTarget
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.runs.studies import Studies, StudiesRequest
from ProxyPromptSegmentModule.scene.annotated import patient_name_of
from ProxyPromptSegmentModule.scene.case_briefs import Found, briefs_in
from ProxyPromptSegmentModule.scene.case_states import states_in
from ProxyPromptSegmentModule.scene.sequence_reader import browsers_of
from ProxyPromptSegmentModule.states import CaseState, StudyState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
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
        key: Id of its image.
        name: Name of its image.
        state: Its state.
        study: What became of it among studies that are segmented together; None if it is not among them, or if it was
            corrected or accepted since.
        reason: Why it failed, or was not segmented.
        patient: Name of its patient, if the subject hierarchy has one.
        found: What was found in it.
        ticked: Whether it is segmented together with others.
    """

    key: str
    name: str
    state: CaseState
    study: StudyState | None = None
    reason: str = ""
    patient: str = ""
    found: tuple[Found, ...] = ()
    ticked: bool = True

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
            name=node.GetName(),
            state=state,
            study=None if study is None or seen else study.state,
            reason="" if study is None or seen else study.reason,
            patient=patient_name_of(node),
            found=briefs.get(key, ()),
            ticked=key not in self._unticked,
        )

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
