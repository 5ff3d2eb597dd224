"""The result of finding everything: a label map on the target's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice
from ProxyPromptSegmentLib.inference.results import SINGLE_TYPE, ModelFacts
from ProxyPromptSegmentLib.remedies import Note


@dataclass(frozen=True, kw_only=True, eq=False)
class EverythingResult:
    """Everything on the slices of a target.

    Attributes:
        labels: 0 where nothing was found, else 1, 2, ...; uint16 ``(K, J, I)``.
        geometry: The target's grid.
        qualities: Mean estimated intersection over union of each label's masks.
        done: Which slices along the job's axis are finished, bool ``(S,)``.
        cancelled: Whether the run was cancelled; finished slices are kept.
        notes: Notes for the user.
        seconds: Seconds of each stage.
        choice: Which masks were kept, with the limits of the model.
        model: The model's weights.
        device: Device that computed the last slices.
        precision: The type of its products: ``float32``, ``bfloat16`` or ``float16``.
    """

    labels: npt.NDArray[np.uint16]
    geometry: VolumeGeometry
    qualities: list[float]
    done: npt.NDArray[np.bool_]
    cancelled: bool
    notes: list[Note]
    seconds: dict[str, float]
    choice: EverythingChoice
    model: ModelFacts
    device: str
    precision: str = SINGLE_TYPE

    @property
    def names(self) -> list[str]:
        """A name for each label."""
        return [f"thing {label}" for label in range(1, len(self.qualities) + 1)]
