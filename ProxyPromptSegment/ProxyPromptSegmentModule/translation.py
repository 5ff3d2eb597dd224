"""Translation of what the user reads: ``from ProxyPromptSegmentModule.translation import _``.

Slicer finds the context of a text by looking at the file that called it, so its function is passed on and not wrapped.
"""

from __future__ import annotations

__all__ = ["_"]

try:
    from slicer.i18n import tr as _
except ImportError:  # outside of Slicer

    def _(text: str) -> str:
        """The text as it is."""
        return text
