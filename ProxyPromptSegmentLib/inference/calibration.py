"""Presence and confidence estimated from what the network gives away, with coefficients fitted for its weights.

Presence is the probability that a slice shows an object::

    presence = sigmoid(a0 + a1 presence logit + a2 logit(prior) + a3 log(distance))

Confidence is the Dice to expect. Of a mask with pixels it is ``presence * overlap``, of an empty one ``1 - presence``::

    overlap = sigmoid(b0 + b1 logit(expected Dice) + b2 logit(agreement) + b3 logit(quality))

The coefficients are fitted on validation patients by ``evaluation.calibrating`` and stored in the registry beside the
hash of the weights. Weights without them keep the network's own presence, and its quality as overlap.
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

EVIDENCE = ("presence", "quality", "overlap", "agreement", "prior", "distance")
"""The columns of the evidence: the network's logit of presence; the decoder's estimate of its mask's IoU; the Dice that
the mask expects of itself; the soft Dice of mask and prior; the largest value of the prior; the distance to the most
similar support."""


PRESENCE = ("offset", "presence", "prior", "distance")
"""The coefficients of presence; all but the offset are named as their evidence."""

OVERLAP = ("offset", "overlap", "agreement", "quality")
"""The coefficients of overlap."""

_MOST_LOGIT = 8.0
_LEAST = 1e-3


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The coefficients of presence and confidence for one set of weights.

    Attributes:
        presence: Coefficient by name, see `PRESENCE`.
        overlap: Coefficient by name, see `OVERLAP`.
        unlike: Distance beyond which a slice does not resemble its supports.
    """

    presence: dict[str, float]
    overlap: dict[str, float]
    unlike: float

    def __post_init__(self) -> None:
        """Check the names of the coefficients.

        Raises:
            CheckpointError: If one is missing or unknown.
        """
        for kind, names in (("presence", PRESENCE), ("overlap", OVERLAP)):
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
        return _logistic(terms(evidence, PRESENCE), self.presence, PRESENCE)

    def overlap_of(self, evidence: Floats) -> Floats:
        """Return the Dice to expect of a mask if the object is shown, ``(...)``, for evidence ``(..., E)``."""
        return _logistic(terms(evidence, OVERLAP), self.overlap, OVERLAP)


def terms(evidence: Floats, names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return what the coefficients multiply, float64 ``(..., len(names))``: 1 for the offset, then the evidence.

    Shares are taken as their logit, the distance as its logarithm, and the network's logit is bounded.
    """
    columns = [np.ones(evidence.shape[:-1])]
    for name in names[1:]:
        values = evidence[..., EVIDENCE.index(name)].astype(np.float64)
        if name == "presence":
            columns.append(values.clip(-_MOST_LOGIT, _MOST_LOGIT))
        elif name == "distance":
            columns.append(np.log(values.clip(_LEAST)))
        else:
            share = values.clip(_LEAST, 1 - _LEAST)
            columns.append(np.log(share / (1 - share)))
    return np.stack(columns, axis=-1)


def _logistic(values: npt.NDArray[np.float64], coefficients: Mapping[str, float], names: tuple[str, ...]) -> Floats:
    total = values @ np.array([coefficients[name] for name in names])
    found: Floats = (1 / (1 + np.exp(-total))).astype(np.float32)
    return found
