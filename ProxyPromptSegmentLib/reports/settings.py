"""The settings of a segmentation as reports and cohorts name them, from whichever face they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def named_settings(
    *,
    objects: Sequence[str],
    axis: str,
    slices: str | None,
    support_slices: Sequence[str],
    output: str,
    threshold: float,
    across_slices: bool,
    fill_gaps: bool,
    most_read: int | None,
    tiles: object,
    position: bool,
    register: bool,
    closer: bool,
    device: str,
    precision: str,
) -> dict[str, Any]:
    """Return the settings that determine a result together with inputs and model; see ``proxyprompt segment``.

    Args:
        objects: Objects of the supports; none means all.
        axis: Slicing axis, or ``auto``.
        slices: Slices of the target; None means all.
        support_slices: Slices of each support that prompt; none means that they are chosen.
        threshold: Voxels of higher probability belong to the object.
        across_slices: Whether each slice is averaged with its neighbours.
        fill_gaps: Whether empty slices inside an object are filled.
        most_read: Number of support slices that a slice reads; None means all.
        tiles: Whether slices are cut into tiles.
        position: Whether the position of slices is used.
        register: Whether supports are registered to the target.
        closer: Whether small structures are segmented a second time, enlarged.
        device: Where it is computed.
        precision: Whether half precision is used there.
        output: Where it is written.
    """
    return {
        "objects": list(objects) or None,
        "axis": axis,
        "slices": slices,
        "support_slices": list(support_slices) or None,
        "threshold": threshold,
        "across_slices": across_slices,
        "fill_gaps": fill_gaps,
        "most_read": most_read,
        "tiles": str(tiles),
        "position": position,
        "register": register,
        "closer": closer,
        "device": device,
        "precision": precision,
        "output": output,
    }


def settings_of_classes(classes: Sequence[str], any_modality: bool, surrogate: bool = False) -> dict[str, Any]:
    """Return the further settings of a segmentation without a support."""
    return {"classes": list(classes) or None, "any_modality": any_modality, "surrogate": surrogate}
