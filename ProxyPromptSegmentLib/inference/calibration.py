"""Presence and confidence estimated from what the network gives away, with coefficients fitted for its weights.

Presence is the probability that a slice shows an object. It has two factors: whether the network sees the object, and
whether the slice resembles its supports at all, which falls from 1 to 0 around the distance `unlike`::

    presence = sigmoid(a0 + a1 presence logit) * sigmoid(20 log(unlike / distance))

Confidence is the Dice to expect: of an empty mask ``1 - presence``, of a mask with pixels its quality::

    quality = sigmoid(b0 + b1 logit(expected Dice) + b2 logit(agreement) + b3 logit(IoU) + b4 presence logit)

The coefficients are fitted on validation patients by ``evaluation.calibrating`` and stored in the registry beside the
hash of the weights. Weights without them keep the network's own presence, and as quality its IoU times presence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.typed_json import JsonError, read_object

Floats = npt.NDArray[np.float32]

EVIDENCE = ("presence", "iou", "overlap", "agreement", "distance")
"""The columns of the evidence: the network's logit of presence; the decoder's estimate of its mask's IoU; the Dice that
the mask expects of itself; the soft Dice of mask and prior; the distance to the most similar support."""

PRESENCE = ("offset", "presence")
"""The coefficients of presence; all but the offset are named as their evidence."""

QUALITY = ("offset", "overlap", "agreement", "iou", "presence")
"""The coefficients of quality."""

STEEPNESS = 20.0
"""How fast resemblance falls with the logarithm of the distance."""

_MOST_LOGIT = 8.0
_LEAST = 1e-3


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The coefficients of presence and confidence for one set of weights.

    Attributes:
        presence: Coefficient by name, see `PRESENCE`.
        quality: Coefficient by name, see `QUALITY`.
        unlike: Distance beyond which a slice does not resemble its supports.
    """

    presence: dict[str, float]
    quality: dict[str, float]
    unlike: float

    def __post_init__(self) -> None:
        """Check the names of the coefficients.

        Raises:
            CheckpointError: If one is missing or unknown.
        """
        for kind, names in (("presence", PRESENCE), ("quality", QUALITY)):
            if set(found := getattr(self, kind)) != set(names):
                raise CheckpointError(
                    f"the calibration of {kind} has {', '.join(sorted(found)) or 'nothing'}; it needs exactly "
                    f"{', '.join(names)}. Fit it again."
                )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Read a calibration from a registry entry.

        Raises:
            CheckpointError: If it is not complete.
        """
        try:
            return read_object(cls, values, "calibration")
        except JsonError as error:
            raise CheckpointError(f"the calibration of a model cannot be used: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as in a registry entry."""
        return asdict(self)

    def presence_of(self, evidence: Floats) -> Floats:
        """Return the probability that the object is shown, ``(...)``, for evidence ``(..., E)``."""
        seen = _logistic(terms(evidence, PRESENCE), self.presence, PRESENCE)
        return seen * resemblance(evidence[..., EVIDENCE.index("distance")], self.unlike)

    def quality_of(self, evidence: Floats) -> Floats:
        """Return the Dice to expect of a mask with pixels, ``(...)``, for evidence ``(..., E)``."""
        return _logistic(terms(evidence, QUALITY), self.quality, QUALITY)


def resemblance(distance: Floats, unlike: float) -> Floats:
    """Return whether slices resemble their supports, 1 to 0 with growing distance, and 0.5 at ``unlike``."""
    share = np.maximum(distance, _LEAST).astype(np.float64) / unlike
    found: Floats = (1 / (1 + share**STEEPNESS)).astype(np.float32)
    return found


def terms(evidence: Floats, names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return what the coefficients multiply, float64 ``(..., len(names))``: 1 for the offset, then the evidence.

    Shares are taken as their logit, and the network's logit is bounded.
    """
    columns = [np.ones(evidence.shape[:-1])]
    for name in names[1:]:
        values = evidence[..., EVIDENCE.index(name)].astype(np.float64)
        if name == "presence":
            columns.append(values.clip(-_MOST_LOGIT, _MOST_LOGIT))
        else:
            share = values.clip(_LEAST, 1 - _LEAST)
            columns.append(np.log(share / (1 - share)))
    return np.stack(columns, axis=-1)


def _logistic(values: npt.NDArray[np.float64], coefficients: Mapping[str, float], names: tuple[str, ...]) -> Floats:
    total = values @ np.array([coefficients[name] for name in names])
    found: Floats = (1 / (1 + np.exp(-total))).astype(np.float32)
    return found
