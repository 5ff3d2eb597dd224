"""Translation of the user interface: ``from ProxyPromptSegmentModule.translation import _``.

Slicer derives the context of a text from the calling file, so its function is re-exported and not wrapped.
"""

from __future__ import annotations

__all__ = ["_"]

try:
    from slicer.i18n import tr as _
except ImportError:  # outside Slicer

    def _(text: str) -> str:
        """Return the text unchanged."""
        return text
