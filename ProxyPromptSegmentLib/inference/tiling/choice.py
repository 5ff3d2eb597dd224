"""The user's choice whether slices are cut into tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ProxyPromptSegmentLib.errors import UsageError

AUTO, OFF, ON = "auto", "off", "on"
LARGEST_MAGNIFICATION = 16.0


@dataclass(frozen=True)
class TileChoice:
    """Whether slices are cut into tiles.

    Attributes:
        mode: ``auto`` decides from the support, ``off`` never cuts, ``on`` cuts for all objects.
        magnification: How many times larger a tile shows the structure than a whole slice does; None decides it from
            the support. Only with ``on``.

    Raises:
        UsageError: If a value is not allowed.
    """

    mode: str = AUTO
    magnification: float | None = None

    def __post_init__(self) -> None:
        """Reject values that are not allowed."""
        number = self.magnification
        allowed = number is None or (self.mode == ON and math.isfinite(number) and 1 < number <= LARGEST_MAGNIFICATION)
        if self.mode not in (AUTO, OFF, ON) or not allowed:
            raise _unknown(self.mode if number is None else f"{number:g}")

    @classmethod
    def of(cls, value: TileChoice | str | float) -> TileChoice:
        """Return the choice that a text or number stands for: ``auto``, ``off``, ``on``, or a magnification.

        Raises:
            UsageError: If it stands for none.
        """
        if isinstance(value, TileChoice):
            return value
        if isinstance(value, str) and value.strip().lower() in (AUTO, OFF, ON):
            return cls(value.strip().lower())
        try:
            return cls(ON, float(value))
        except ValueError:
            raise _unknown(str(value)) from None

    def __str__(self) -> str:
        """Return the text that `of` reads."""
        return self.mode if self.magnification is None else f"{self.magnification:g}"


def _unknown(value: str) -> UsageError:
    return UsageError(
        f"tiles are '{value}'; allowed are auto, off, on, or a magnification above 1 and at most "
        f"{LARGEST_MAGNIFICATION:g}."
    )
