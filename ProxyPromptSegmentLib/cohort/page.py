"""The page of a cohort: one HTML file without scripts and without anything from a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from ProxyPromptSegmentLib.cohort.rows import WORDS, Row, State
from ProxyPromptSegmentLib.cohort.studies import shown
from ProxyPromptSegmentLib.reports.html_page import document, table

_STYLE = """
img { height: 110px; background: #18181a; }
.failed td:nth-child(2) { color: var(--bad); } .warn td:nth-child(2) { color: var(--warn); }
"""
_COLUMNS = ("Picture", "Study", "Structure", "Volume", "Slices", "Mean confidence", "To review")
_CLASSES = {State.FAILED: "failed", State.EMPTY: "warn", State.INCOMPLETE: "warn"}
_MOST_REASONS = 2


def page_of(title: str, about: Mapping[str, Any], rows: Sequence[Row], written: str) -> str:
    """Return the page.

    Args:
        title: Name of the cohort.
        about: What made it: ``supports``, ``model`` and ``settings``.
        rows: The studies, in the order in which they are shown.
        written: When, as text.
    """
    counts = Counter(row.state for row in rows)
    counted = ", ".join(f"{counts[state]} {WORDS[state]}" for state in State if counts[state])
    made = _made_by(about)
    lines = [
        f"<p>{len(rows)} studies: {escape(counted)}. Written on {escape(written)}. {made}</p>",
        "<p>In the order to look at: failed, nothing found, not everything found, then the least sure first; at the "
        "end what was corrected by hand, with the numbers after that. Each picture shows the program's result "
        "on the slice that shows most and, beside it, on the least sure one. Numbers for other programs: "
        '<a href="summary.csv">summary.csv</a>.</p>',
        *table(_COLUMNS, (_row(row) for row in rows)),
    ]
    return document(shown(title), lines, _STYLE)


def _made_by(about: Mapping[str, Any]) -> str:
    """Return in words with what the studies were segmented."""
    model = escape(shown(str(about["model"].get("name", "?"))))
    names = [escape(shown(str(one.get("name") or one.get("image")))) for one in about["supports"]]
    if not names:
        classes = about["settings"].get("classes") or ["all classes of the model"]
        return f"Segmented by {model}: {escape(', '.join(map(str, classes)))}."
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"Segmented by {model} with {'support' if len(names) == 1 else 'supports'} {', '.join(names[:5])}{more}."


def _row(row: Row) -> str:
    """Return a row of the table."""
    objects = row.objects
    picture = row.facts.get("thumbnail")
    image = f'<img loading="lazy" alt="" src="{quote(str(picture))}">' if picture else ""
    linked = {"result": row.facts.get("result"), "report": row.facts.get("report")}
    if corrected := row.facts.get("corrected"):
        linked = {"corrected result": linked["result"], "program's": corrected.get("program_result"), **linked}
        del linked["result"]
    links = " ".join(f'<a href="{quote(str(path))}">{escape(word)}</a>' for word, path in linked.items() if path)
    name = shown(row.study.name)
    path = shown(str(row.study.path))
    place = f'<div class="small">{escape(path)}</div>' if not path.endswith(name) else ""
    state = "" if row.state == State.DONE else f"<div>{escape(WORDS[row.state])}</div>"
    reason = f"<div>{escape(shown(row.reason))}</div>" if row.reason else ""
    cells = [
        f"<td>{image}</td>",
        f'<td title="{escape(path)}"><b>{escape(name)}</b>{place}{state}{reason}<div class="small">{links}</div></td>',
        f"<td>{_lines(escape(str(one.get('name', ''))) for one in objects)}</td>",
        f'<td class="number">{_lines(_volume(one) for one in objects)}</td>',
        f'<td class="number">{_lines(str(one.get("slices", "")) for one in objects)}</td>',
        f'<td class="number">{_lines(_two(one.get("mean_confidence")) for one in objects)}</td>',
        f'<td class="small">{_review(row)}</td>',
    ]
    return f'<tr class="{_CLASSES.get(row.state, "")}">{"".join(cells)}</tr>'


def _lines(texts: Any) -> str:
    return "<br>".join(texts)


def _volume(one: Mapping[str, Any]) -> str:
    """Return the size of a structure with its unit."""
    if one.get("volume_ml") is not None:
        return f"{one['volume_ml']:.1f} ml"
    return f"{one.get('voxels', '')} pixels"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _review(row: Row) -> str:
    """Return the slices to review first, with their reasons."""
    doubts = row.facts.get("review", [])
    said = [f"slice {one.get('slice')}, {one.get('object')}: {one.get('why')}" for one in doubts[:_MOST_REASONS]]
    more = [f"and {len(doubts) - _MOST_REASONS} more"] if len(doubts) > _MOST_REASONS else []
    return _lines(escape(text) for text in (*said, *more))
