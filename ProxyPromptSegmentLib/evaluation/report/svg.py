"""What charts have in common: elements of SVG as text, axes, and the colours of systems.

Numbers are written with one decimal, so that the same scores give the same text everywhere. Colours are the page's, so
that charts follow dark and light.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ProxyPromptSegmentLib.reports.html_page import COLORS

WIDTH, MARGIN = 760, 12
NAMES = 210
"""Width of the names on the left."""
_LETTER = 6.6  # mean width of a letter of the charts' 12 px


@dataclass(frozen=True)
class Axis:
    """A horizontal axis.

    Attributes:
        low: Value at its left end.
        high: Value at its right end.
        title: What it shows, with its unit.
        left: Position of its left end in pixels.
        right: Position of its right end.
    """

    low: float
    high: float
    title: str
    left: float = NAMES
    right: float = WIDTH - 2 * MARGIN

    def at(self, value: float) -> float:
        """Return the position of a value in pixels."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)

    def drawn(self, top: float, bottom: float) -> list[str]:
        """Return its grid lines from top to bottom, with numbers and title below."""
        lines = []
        for value in ticks(self.low, self.high):
            x = self.at(value)
            lines.append(line(x, top, x, bottom, "grid"))
            lines.append(text(x, bottom + 16, f"{value:g}", anchor="middle"))
        lines.append(text((self.left + self.right) / 2, bottom + 34, self.title, anchor="middle"))
        return lines


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return round numbers between two values, at most as many as wanted and one more."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def axis_for(values: Iterable[float], title: str, share: bool) -> Axis:
    """Return an axis that shows all values; of shares it starts at 0 or, where all are high, at a round number above.

    Args:
        values: Finite values, at least one.
        title: What they are.
        share: Whether they are shares, 0 to 1.
    """
    found = list(values)
    if share:
        return Axis(max(0.0, math.floor(min(found) * 10 - 1e-9) / 10) if min(found) > 0.5 else 0.0, 1.0, title)
    return Axis(0.0, max(found) * 1.05 or 1.0, title)


def chart(height: float, label: str, parts: Iterable[str], width: float = WIDTH) -> str:
    """Return a chart as one element of a page.

    Args:
        height: In pixels.
        label: What it shows, for those who do not see it.
        parts: Its elements.
        width: In pixels; it shrinks with the page.
    """
    size = f'viewBox="0 0 {number(width)} {number(height)}" width="{number(width)}" height="{number(height)}"'
    return "\n".join([f'<svg {size} role="img" aria-label="{escape(label)}">', *parts, "</svg>"])


def color_class(place: int) -> str:
    """Return the class of a system by its place in the order of all."""
    return f"c{COLORS[place % len(COLORS)]}"


def styles() -> str:
    """Return the CSS of all charts."""
    systems = "\n".join(
        f".c{name}.dot, .c{name}.fill {{ fill: var(--{name}); }} .c{name}.edge {{ stroke: var(--{name}); }}"
        for name in COLORS
    )
    return f"""
svg {{ max-width: 100%; height: auto; display: block; }}
svg text {{ font: 12px system-ui, sans-serif; fill: var(--ink); }}
svg .grid {{ stroke: var(--line); }} svg .axis {{ stroke: var(--quiet); }}
svg .edge {{ stroke-width: 1.6; fill: none; }} svg .fill {{ fill-opacity: .25; }} svg .dot {{ fill-opacity: .65; }}
svg .mean {{ fill: var(--paper); stroke: var(--ink); stroke-width: 1.6; }}
{systems}
"""


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a straight line of a class."""
    return f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" class="{kind}"/>'


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Return a rectangle of a class."""
    size = f'width="{number(width)}" height="{number(height)}"'
    return f'<rect x="{number(x)}" y="{number(y)}" {size} class="{kind}"/>'


def dot(x: float, y: float, radius: float, kind: str, title: str = "") -> str:
    """Return a disc of a class, with words that a browser shows under the pointer."""
    said = f"<title>{escape(title)}</title>" if title else ""
    return f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" class="{kind}">{said}</circle>'


def shape(points: Sequence[tuple[float, float]], kind: str) -> str:
    """Return a polygon of a class."""
    return f'<polygon points="{_places(points)}" class="{kind}"/>'


def path(points: Sequence[tuple[float, float]], kind: str) -> str:
    """Return connected lines of a class."""
    return f'<polyline points="{_places(points)}" class="{kind}"/>'


def text(x: float, y: float, words: str, anchor: str = "start", room: float | None = None) -> str:
    """Return words, cut off where they need more room than there is; the whole is shown under the pointer."""
    short = words
    if room is not None and len(words) * _LETTER > room:
        short = words[: max(1, int(room / _LETTER) - 1)].rstrip() + "…"
    said = f"<title>{escape(words)}</title>" if short != words else ""
    return f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}">{said}{escape(short)}</text>'


def number(value: float) -> str:
    """Return a position with one decimal, without a needless one and without a negative zero."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def _places(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)
