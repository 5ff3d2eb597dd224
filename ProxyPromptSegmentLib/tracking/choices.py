"""The modes of tracking and the threshold of its self-check, by themselves: who names one needs no torch."""

from __future__ import annotations

from enum import Enum


class TrackingMode(str, Enum):
    """What a prediction is made from; the values are the words of the command line and of reports.

    Attributes:
        PROXY_AND_BANK: The proxy prompt and the memories of earlier frames.
        PROXY_ONLY: The proxy prompt alone: each frame is judged on its own.
        BANK_ONLY: SAM 2 without a proxy prompt, which begins with given frames.
    """

    PROXY_AND_BANK = "proxy+bank"
    PROXY_ONLY = "proxy_only"
    BANK_ONLY = "bank_only"

    __str__ = str.__str__  # the same word in every Python, also inside an f-string


PROMPTED_MODES = (TrackingMode.PROXY_AND_BANK, TrackingMode.PROXY_ONLY)
"""Those that a support prompts; the first is the default."""

DISAGREEMENT = 0.5
"""Dice of proxy prompt and memory below which the two disagree. Provisional: to be set on the validation sweep, with
the share of frames that is reported against their Dice."""
