"""The settings of a segmentation, and for each a value that nothing has by default."""

from __future__ import annotations

import dataclasses
import inspect

from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER
from ProxyPromptSegmentLib.inference.helps import REGISTER, USE_POSITION
from ProxyPromptSegmentLib.reports.settings import named_settings

PLACES = {"objects", "axis", "slices", "support_slices", "output"}
"""What of the settings says where something is, not how it is computed."""

NAMES = frozenset(inspect.signature(named_settings).parameters)
CHANGED = {
    "threshold": 0.37,
    "across_slices": False,
    "fill_gaps": False,
    "most_read": None,
    "tiles": "off",
    "position": not USE_POSITION,
    "register": not REGISTER,
    "closer": not USE_CLOSER,
    "device": "cpu",
    "precision": "single",
}
"""Each setting that says how it is computed; a new one needs a value here, and then a place in every face."""


def fields_of(kind: type) -> set[str]:
    """The names of a dataclass's fields."""
    return {one.name for one in dataclasses.fields(kind)}


def as_text(value: object) -> object:
    """A choice of tiles as reports name it; everything else as it is."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
