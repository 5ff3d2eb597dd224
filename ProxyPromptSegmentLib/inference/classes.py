"""Classes of a model's vocabulary as the objects that a job is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from ProxyPromptSegmentLib.imaging.segmentations import default_color
from ProxyPromptSegmentLib.support.asked import AskedObjects
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass


def asked_classes(classes: Sequence[PromptClass]) -> AskedObjects:
    """Return classes as objects to segment, with the colours and codes that their vocabulary has for them."""
    return AskedObjects(
        objects=tuple(one.name for one in classes),
        colors=tuple(default_color(n) if one.color_rgb is None else one.color_rgb for n, one in enumerate(classes)),
        terminologies=tuple(one.terminology for one in classes),
        one_piece=tuple(one.one_piece for one in classes),
    )
