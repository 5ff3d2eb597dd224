"""Numbers, durations and errors in words for the user."""

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
    """Format a duration: ``12 s``, ``3 min``, ``2 h``."""
    if seconds < 90:
        return _("{number} s").format(number=max(1, round(seconds)))
    if seconds < 90 * 60:
        return _("{number} min").format(number=round(seconds / 60))
    return _("{number} h").format(number=round(seconds / 3600))


def size(count: float) -> str:
    """Format a number of bytes: ``300 MB``; decimal units, as browsers show them."""
    if count >= 1e9:
        return _("{number} GB").format(number=f"{count / 1e9:.1f}")
    if count >= 1e6:
        return _("{number} MB").format(number=round(count / 1e6))
    return _("{number} kB").format(number=max(1, round(count / 1e3)))


def ranges(numbers: Sequence[int]) -> str:
    """Format numbers as ranges, ``3, 5:8`` for 3, 5, 6, 7, 8; the field for slices reads this format."""
    return ", ".join(f"{first}:{last}" if first < last else f"{first}" for first, last in consecutive_ranges(numbers))


def sentence(text: str) -> str:
    """Capitalise the first letter."""
    text = text.strip()
    return text[:1].upper() + text[1:]


def say(label: qt.QLabel, text: str, link: str = "") -> None:
    """Show a text in a label, with a link below; the label is hidden if there is no text."""
    lines = [html.escape(sentence(line), quote=False) for line in text.splitlines() if line.strip()]
    if link and lines:
        lines.append(f'<a href="#">{html.escape(link)}</a>')
    shown = "<br>".join(lines)
    if label.text != shown:  # setting the text of a wrapping label lays out the whole panel again
        label.text = shown
    label.setVisible(bool(lines))


def allow(button: qt.QWidget, reason: str, tip: str) -> None:
    """Enable a button, or disable it and show the reason as its tool tip."""
    button.enabled = not reason
    button.toolTip = reason or tip


@contextmanager
def said_in(label: qt.QLabel) -> Iterator[None]:
    """Show errors raised inside the block as sentences in a label; internal errors are also logged."""
    try:
        yield
    except Exception as error:
        say(label, explained(error))


def explained(error: BaseException) -> str:
    """Return the sentence of an error; an internal error is logged with its traceback."""
    known = as_user_error(error)
    if known is not None:
        return worded(known)
    _log.error("Fault in the panel", exc_info=error)
    return _("Unexpected error: {error}. Please report it; see the log (menu Help > Report a Bug).").format(
        error=f"{type(error).__name__}: {error}"
    )
