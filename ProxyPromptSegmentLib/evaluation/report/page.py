"""A report as one HTML file: chapters of paragraphs, tables, charts and pictures.

Usage::

    chapters = [Chapter("Which system is best?", [Words(["..."]), grid_of(table_of(scores, "ours"), "ours")])]
    write_text(path, page("Table 2", chapters))        # or `chapters_of(scores, "ours")` of `report.standard`
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ProxyPromptSegmentLib.evaluation.report.panels import Panel
from ProxyPromptSegmentLib.evaluation.report.svg import styles
from ProxyPromptSegmentLib.reports.html_page import document, table

_STYLE = """
body { max-width: 1320px; margin-inline: auto; padding-inline: 1.2em; }
h2 { margin-top: 2em; border-bottom: 1px solid var(--line); padding-bottom: .2em; }
.lead p { font-size: 17px; max-width: 54em; } .lead p:first-child { font-size: 20px; font-weight: 600; }
p { max-width: 60em; }
.wide { overflow-x: auto; } td.number { white-space: pre; } .wide td:not(.number) { min-width: 5em; }
.wide td, .wide th { padding-inline: .5em; }
figure { margin: 1em 0; } figcaption { color: var(--quiet); font-size: 13px; max-width: 60em; }
.panels { display: flex; flex-wrap: wrap; gap: .9em; } .panels figure { margin: 0; width: 220px; }
.panels img { background: #18181a; display: block; max-width: 100%; }
tr.best td { font-weight: 600; }
@media print { body { font-size: 11px; max-width: none; margin: 0; } th { position: static; }
  .wide { font-size: 9px; }
  .wide { overflow: visible; } figure, tr { break-inside: avoid; }
  figure.table { break-inside: auto; } h2, h3 { break-after: avoid; }
  .lead { break-after: auto; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


@dataclass(frozen=True)
class Words:
    """Paragraphs of plain text.

    Attributes:
        paragraphs: The paragraphs.
        lead: Whether they are the answer that a reader is looking for; the first one is then set large.
    """

    paragraphs: Sequence[str]
    lead: bool = False

    def html(self) -> list[str]:
        """Return its lines of HTML."""
        lines = [f"<p>{escape(one)}</p>" for one in self.paragraphs]
        return ['<div class="lead">', *lines, "</div>"] if self.lead else lines


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        head: Titles of the columns.
        rows: Cells as plain text.
        texts: Number of columns on the left that are words; the others are numbers.
        best: Numbers of the rows that are set in bold.
        caption: Plain text below it.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    best: frozenset[int] = frozenset()
    caption: str = ""

    def html(self) -> list[str]:
        """Return its lines of HTML."""
        caption = [f"<figcaption>{escape(self.caption)}</figcaption>"] if self.caption else []
        rows = (self._row(n, cells) for n, cells in enumerate(self.rows))
        return ['<figure class="table"><div class="wide">', *table(self.head, rows), "</div>", *caption, "</figure>"]

    def _row(self, number: int, cells: Sequence[str]) -> str:
        kinds = ["<td>" if n < self.texts else '<td class="number">' for n in range(len(cells))]
        inner = "".join(f"{kind}{escape(cell)}</td>" for kind, cell in zip(kinds, cells, strict=True))
        return f'<tr class="best">{inner}</tr>' if number in self.best else f"<tr>{inner}</tr>"


@dataclass(frozen=True)
class Chart:
    """A chart as SVG with its caption; nothing where the SVG is empty."""

    svg: str
    caption: str = ""

    def html(self) -> list[str]:
        """Return its lines of HTML."""
        caption = f"<figcaption>{escape(self.caption)}</figcaption>"
        return [f"<figure>{self.svg}{caption}</figure>"] if self.svg else []


@dataclass(frozen=True)
class Panels:
    """A row of pictures below a title."""

    title: str
    panels: Sequence[Panel]

    def html(self) -> list[str]:
        """Return its lines of HTML."""
        return [f"<h3>{escape(self.title)}</h3>", '<div class="panels">', *map(_panel, self.panels), "</div>"]


Part = Words | Grid | Chart | Panels


@dataclass(frozen=True)
class Chapter:
    """A chapter of a report.

    Attributes:
        title: Its title; "" for the beginning of the report.
        parts: Its parts in order.
    """

    title: str
    parts: Sequence[Part]


def page(title: str, chapters: Sequence[Chapter]) -> str:
    """Return a report; the same content gives the same text.

    Args:
        title: Its title, as plain text.
        chapters: Its chapters; those without content are left out.
    """
    lines: list[str] = []
    for chapter in chapters:
        inner = [line for part in chapter.parts for line in part.html()]
        if inner:
            lines += [f"<h2>{escape(chapter.title)}</h2>"] if chapter.title else []
            lines += inner
    return document(title, lines, _STYLE + styles(), alone=True)


def _panel(panel: Panel) -> str:
    inside = base64.b64encode(panel.jpeg).decode("ascii")
    caption = f"<figcaption>{escape(panel.caption)}</figcaption>"
    return f'<figure><img alt="{escape(panel.caption)}" src="data:image/jpeg;base64,{inside}">{caption}</figure>'
