"""The frame of pages that are one HTML file: no scripts, nothing from a network, in dark, in light and on paper.

A page of a cohort and a report of an evaluation share it, with its colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ProxyPromptSegmentLib.reports.preview import RESEARCH

CHECKED = "Every contour must be checked by a qualified person."
_LIGHT = (
    "--ink: #1c1c1e; --paper: #fff; --line: #d8d8dc; --head: #f4f4f6; --quiet: #62626a; --bad: #b00020; "
    "--warn: #9a5b00; --good: #1b7a3d; --a: #0072b2; --b: #d55e00; --c: #009e73; "
    "--d: #b5487f; --e: #7a5cc4; --f: #8a6d00; --g: #3b3b40;"
)
_DARK = (
    "--ink: #e8e8ea; --paper: #17171a; --line: #3a3a40; --head: #232328; --quiet: #a0a0a8; --bad: #ff7a85; "
    "--warn: #f0b45c; --good: #6fd08c; --a: #56b4e9; --b: #f0894a; --c: #3ec9a0; "
    "--d: #e58bb8; --e: #b09cf0; --f: #e0c14a; --g: #c4c4ca;"
)
COLORS = ("a", "b", "c", "d", "e", "f", "g")
"""Names of the colours of charts; as ``var(--a)`` they are seen on both backgrounds and told apart by most people."""

BASE_STYLE = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
@media print {{ :root {{ color-scheme: light; {_LIGHT} }} }}
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 1.5em; color: var(--ink); background: var(--paper); }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .45em .7em; border-bottom: 1px solid var(--line); }}
th {{ position: sticky; top: 0; background: var(--head); }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
a {{ color: var(--a); }}
.small {{ color: var(--quiet); font-size: 13px; overflow-wrap: anywhere; }}
"""
_NOTHING_ELSE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_ALONE = f'<meta http-equiv="Content-Security-Policy" content="{_NOTHING_ELSE}">'


def document(title: str, body: Iterable[str], style: str = "", alone: bool = False) -> str:
    """Return a page.

    Args:
        title: Its title, as plain text.
        body: Lines of HTML, below the title's own heading and the sentence about research use.
        style: CSS that follows `BASE_STYLE`.
        alone: Whether browsers are asked to load nothing that is not inside the file.
    """
    name = escape(title)
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{_ALONE if alone else ""}<title>{name}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{BASE_STYLE}{style}</style></head><body>'
    )
    return "\n".join([head, f"<h1>{name}</h1>", f"<p><b>{RESEARCH}</b> {CHECKED}</p>", *body, "</body></html>\n"])


def table(head: Sequence[str], rows: Iterable[str]) -> list[str]:
    """Return the lines of a table.

    Args:
        head: Titles of its columns, as plain text.
        rows: Lines of HTML, each a whole row.
    """
    titles = "".join(f"<th>{escape(one)}</th>" for one in head)
    return [f"<table><thead><tr>{titles}</tr></thead><tbody>", *rows, "</tbody></table>"]
