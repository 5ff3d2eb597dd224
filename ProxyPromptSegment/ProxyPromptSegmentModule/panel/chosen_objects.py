"""The chosen objects: what is segmented in the target, of supports, or of the classes that a model knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentLib.inference.by_hand.prompts import DEFAULT_OBJECT
from ProxyPromptSegmentModule.panel.chosen_classes import ChosenClasses
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.parameters import names_of
from ProxyPromptSegmentModule.scene.hand_marks import marked_objects
from ProxyPromptSegmentModule.scene.painted_masks import painted_masks
from ProxyPromptSegmentModule.states import PromptBy
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.supports.saved import ObjectChoice


class ChosenObjects:
    """The objects that the ticked supports have, and those of them that are ticked; or the ticked classes."""

    def __init__(self, state: PanelState, classes: ChosenClasses) -> None:
        """Derive everything from the panel's state and the chosen classes."""
        self._state, self._classes = state, classes

    def choices(self) -> list[ObjectChoice]:
        """Return the objects that can be segmented, ordered by the number of supports that have them."""
        return self._state.table.objects() if self._state.table is not None else []

    def names(self) -> tuple[str, ...]:
        """Return the names of the objects to segment."""
        if self._state.prompt_by.names_classes:
            return tuple(one.name for one in self._classes.chosen())
        if self._state.prompt_by == PromptBy.HAND:
            return self.by_hand() or (self.named,)
        choices, chosen = self.choices(), names_of(self._state.parameters.objects)
        if chosen is not None:
            folded = {name.casefold() for name in chosen}
            known = tuple(one.name for one in choices if one.name.casefold() in folded)
            if known or not chosen:  # if the supports have none of them any more, all objects are used
                return known
        return tuple(one.name for one in choices if one.everywhere)

    @property
    def named(self) -> str:
        """The name of the object that is marked by hand next."""
        return self._state.parameters.handObject.strip() or DEFAULT_OBJECT

    def by_hand(self) -> tuple[str, ...]:
        """Return the names of the objects that are marked by hand on the target."""
        scene, target = slicer.mrmlScene, self._state.parameters.targetVolume
        painted = [name for _node, _segment, name in painted_masks(scene, target)]
        return tuple(dict.fromkeys([*marked_objects(scene, target), *painted]))

    def reason(self) -> str:
        """Return why no object can be segmented; "" if one can."""
        if self._state.prompt_by.names_classes:
            return self._classes.reason()
        if self._state.prompt_by == PromptBy.HAND:
            nothing = _("Press Inside and click into the structure on a slice of the target, or draw a box around it.")
            return "" if self.by_hand() or self._state.parameters.targetVolume is None else nothing
        if self.choices() and not self.names():
            if names_of(self._state.parameters.objects) == ():
                return _("Tick at least one object to segment.")
            return _("The ticked supports have no object in common; tick an object, or fewer supports.")
        return ""
