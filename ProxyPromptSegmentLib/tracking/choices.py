"""The modes of tracking and the threshold of its self-check, separate from the tracker to avoid importing torch."""

from __future__ import annotations

from enum import Enum


class TrackingMode(str, Enum):
    """The inputs of a tracker's predictions; the values are used by the command line and in reports.

    Attributes:
        PROXY_AND_BANK: The proxy prompt and the memories of earlier frames.
        PROXY_ONLY: The proxy prompt alone: each frame is segmented independently.
        BANK_ONLY: SAM 2 without a proxy prompt, which begins with given frames.
    """

    PROXY_AND_BANK = "proxy+bank"
    PROXY_ONLY = "proxy_only"
    BANK_ONLY = "bank_only"

    __str__ = str.__str__  # the value in every Python version, also inside an f-string


PROMPTED_MODES = (TrackingMode.PROXY_AND_BANK, TrackingMode.PROXY_ONLY)
"""The modes that use a proxy prompt; the first is the default."""

DISAGREEMENT = 0.5
"""Dice of proxy prompt and memory below which the two disagree. Provisional: to be set on the validation sweep, by the
share of reported frames and their Dice."""
