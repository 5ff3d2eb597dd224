"""Translation of the user interface: ``from ProxyPromptSegmentModule.translation import _``.

Slicer derives the context of a text from the file that calls its function, and looks for that file on the disk each
time. The panel asks for some hundred texts whenever it is refreshed, so each text of a file is translated once; the
language of Slicer changes with a restart only.
"""

from __future__ import annotations

import functools
import sys
import types

__all__ = ["_"]

try:
    from slicer.i18n import tr
except ImportError:  # outside Slicer

    def tr(text: str) -> str:
        """Return the text unchanged."""
        return text


def _(text: str) -> str:
    """Return a text in the language of the user interface."""
    return _translated(sys._getframe(1).f_code.co_filename, text)


@functools.cache
def _translated(file: str, text: str) -> str:
    """Return the translation of a text of a file, as if that file had called Slicer's function."""
    asking = types.FunctionType(_ask.__code__.replace(co_filename=file), globals())
    return str(asking(text))


def _ask(text: str) -> str:
    return tr(text)
