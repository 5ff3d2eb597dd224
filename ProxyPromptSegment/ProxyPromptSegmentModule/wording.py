"""Numbers, durations and errors as a person reads them."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import as_user_error
from ProxyPromptSegmentLib.wording import consecutive_ranges
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import qt

_log = logging.getLogger(__name__)


def duration(seconds: float) -> str:
    """``12 s``, ``3 min``, ``2 h``."""
    if seconds < 90:
        return _("{number} s").format(number=max(1, round(seconds)))
    if seconds < 90 * 60:
        return _("{number} min").format(number=round(seconds / 60))
    return _("{number} h").format(number=round(seconds / 3600))


def size(count: float) -> str:
    """``300 MB``; decimal units, as the licence pages and browsers give them."""
    if count >= 1e9:
        return _("{number} GB").format(number=f"{count / 1e9:.1f}")
    if count >= 1e6:
        return _("{number} MB").format(number=round(count / 1e6))
    return _("{number} kB").format(number=max(1, round(count / 1e3)))


def ranges(numbers: Sequence[int]) -> str:
    """``3, 5:8`` of 3, 5, 6, 7, 8; what the field for slices reads."""
    return ", ".join(f"{first}:{last}" if first < last else f"{first}" for first, last in consecutive_ranges(numbers))


def sentence(text: str) -> str:
    """With a capital letter in front."""
    text = text.strip()
    return text[:1].upper() + text[1:]


def say(label: qt.QLabel, text: str) -> None:
    """Shows a text in a label, which vanishes without one."""
    lines = [html.escape(sentence(line), quote=False) for line in text.splitlines() if line.strip()]
    shown = "<br>".join(lines)
    if label.text != shown:  # a label that wraps makes the whole panel find its places anew
        label.text = shown
    label.setVisible(bool(lines))


def allow(button: qt.QWidget, reason: str, tip: str) -> None:
    """Enables a button, or says in its tool tip why it cannot be pressed."""
    button.enabled = not reason
    button.toolTip = reason or tip


@contextmanager
def said_in(label: qt.QLabel) -> Iterator[None]:
    """Shows errors of what is done inside as sentences in a label; only faults of the program go to the log as well."""
    try:
        yield
    except Exception as error:
        say(label, explained(error))


def explained(error: BaseException) -> str:
    """Return the sentence of an error; a fault of the program is logged with its trace."""
    known = as_user_error(error)
    if known is not None:
        return worded(known)
    _log.error("Fault in the panel", exc_info=error)
    return _("Unexpected error: {error}. Please report it; see the log (menu Help > Report a Bug).").format(
        error=f"{type(error).__name__}: {error}"
    )
