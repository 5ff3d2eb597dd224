"""Keys of the panel.

A key belongs to a widget of the panel and works in its window only while that widget is on screen, so no key does
anything while another module is open. Slicer and its modules use single letters, digits and Ctrl, but no letter with
Shift alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import qt

from ProxyPromptSegmentModule.states import Word


class Key(Word):
    """What the keys do."""

    NEXT_DOUBT = "Shift+N"
    ACCEPT = "Shift+A"
    UNDO = "Shift+U"
    TOGGLE = "Shift+T"


def add_shortcuts(widget: qt.QWidget, keys: Mapping[Key, Callable[[], None]]) -> None:
    """Call a function when its key is pressed while a widget is on screen."""
    for key, called in keys.items():
        qt.QShortcut(qt.QKeySequence(str(key)), widget).connect("activated()", called)
