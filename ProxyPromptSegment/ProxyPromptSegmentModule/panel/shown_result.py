"""The result of the selected target as its segments are now, for all sections that show or use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.scene.facts import result_now, text_of_facts
from ProxyPromptSegmentModule.scene.nodes import in_scene
from ProxyPromptSegmentModule.scene.owners import result_segments
from ProxyPromptSegmentModule.scene.slice_prints import WRITTEN_TAG
from ProxyPromptSegmentModule.scene.stamps import place_stamp, segmentation_stamp
from ProxyPromptSegmentModule.scene.terminology import tag_of

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.scene.facts import ResultNow


class ShownResult:
    """What the target's segments hold; computed again only after changes."""

    def __init__(self, state: PanelState) -> None:
        """Derive everything from the panel's state."""
        self._state = state
        self._stamp: object = None
        self._known: ResultNow | None = None

    @property
    def is_film(self) -> bool:
        """Whether the result is one of a sequence, whose items have no facts of their own."""
        run = self._state.result
        return run is not None and run.request.browser is not None

    def now(self) -> ResultNow | None:
        """Return what the target's segments hold now; None without segments, and for sequences."""
        if not self._state.has_scene or self.is_film:
            return None
        node, target = self._state.segmentation, self._state.parameters.targetVolume
        if node is None or target is None or not in_scene(target):
            return None
        ids = node.GetSegmentation().GetSegmentIDs()
        tags = tuple(tag_of(node.GetSegmentation().GetSegment(one), WRITTEN_TAG) for one in ids)
        known = (tuple(result_segments(node, target).items()), text_of_facts(node, target), target.GetName())
        stamp = (segmentation_stamp(node, ids), tags, place_stamp(target), known)
        if stamp != self._stamp:
            self._stamp, found = stamp, result_now(node, target, self._state.states)
            self._known = found if found.states else None
        return self._known
