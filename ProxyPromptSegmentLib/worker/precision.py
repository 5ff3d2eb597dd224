"""In which precision networks compute: single, or half where that was measured to change no mask that matters."""

from __future__ import annotations

from ProxyPromptSegmentLib.errors import UsageError

AUTO, SINGLE, HALF = "auto", "single", "half"
PRECISIONS = (AUTO, SINGLE, HALF)
"""``auto``: half where it is fast and its masks were measured; ``half``: wherever the device has it; ``single``."""

MEASURED = frozenset({"sam-compact", "sam2-compact"})
"""Backbones whose masks differ by less than 0.002 in Dice on validation patients, see Docs/results/speed.md."""


def check_precision(precision: str) -> None:
    """Reject what is no precision.

    Raises:
        UsageError: With those that there are.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"there is no precision '{precision}'; choose {', '.join(PRECISIONS)}")
