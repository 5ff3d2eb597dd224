"""The settings that say how a segmentation is computed, for tasks and for all who ask for one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER
from ProxyPromptSegmentLib.inference.helps import REGISTER, USE_POSITION
from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.inference.tiling.choice import AUTO as AUTO_TILES
from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.worker.precision import AUTO


@dataclass(frozen=True, kw_only=True, eq=False)
class ComputeSettings:
    """How a segmentation is computed; ``proxyprompt segment --help`` says what each means for a user.

    Attributes:
        device: See `devices.choose_device`: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: Whether half precision is used, see `precision.PRECISIONS`.
        threshold: Voxels of higher probability belong to the object, 0..1.
        across_slices: Whether masks use neighbouring slices; False segments each slice independently.
        fill_gaps: Whether empty slices between slices that show an object are filled where the mask itself supports
            it; only with ``across_slices``.
        most_read: Number of supports that a slice reads if more are given: those most like it; None means all.
        tiles: Whether slices are cut into tiles: a `TileChoice` or its text.
        position: Whether the position of slices along their volumes is used, if the model reads it.
        register: Whether volumes are registered to the target and joined with the prediction.
        closer: Whether small structures are segmented a second time, enlarged.
    """

    device: str = "auto"
    precision: str = AUTO
    threshold: float = THRESHOLD
    across_slices: bool = True
    fill_gaps: bool = True
    most_read: int | None = MOST_READ
    tiles: TileChoice | str | float = AUTO_TILES
    position: bool = USE_POSITION
    register: bool = REGISTER
    closer: bool = USE_CLOSER

    def computing(self) -> dict[str, Any]:
        """Return these settings by name, without what a subclass adds."""
        return {one.name: getattr(self, one.name) for one in fields(ComputeSettings)}
