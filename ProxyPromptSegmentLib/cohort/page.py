"""The page of a cohort: one HTML file without scripts and without anything from a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from ProxyPromptSegmentLib.cohort.rows import WORDS, Row, State
from ProxyPromptSegmentLib.cohort.studies import shown

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5em; color: #1c1c1e; background: #fff; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .45em .7em; border-bottom: 1px solid #ddd; }
th { position: sticky; top: 0; background: #f4f4f6; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img { height: 110px; background: #18181a; }
.failed td:nth-child(2) { color: #b00020; } .warn td:nth-child(2) { color: #9a5b00; }
.small { color: #666; font-size: 13px; overflow-wrap: anywhere; }
"""
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
    name = escape(shown(title))
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
    )
    counts = Counter(row.state for row in rows)
    counted = ", ".join(f"{counts[state]} {WORDS[state]}" for state in State if counts[state])
    made = _made_by(about)
    lines = [
        head,
        f"<h1>{name}</h1>",
        "<p><b>Research use only. Not for diagnosis.</b> Every contour must be checked by a qualified person.</p>",
        f"<p>{len(rows)} studies: {escape(counted)}. Written on {escape(written)}. {made}</p>",
        "<p>In the order to look at: failed, nothing found, not everything found, then the least sure first. Each "
        "picture shows the slice that shows most and, beside it, the least sure one. Numbers for other programs: "
        '<a href="summary.csv">summary.csv</a>.</p>',
        "<table><thead><tr><th>Picture</th><th>Study</th><th>Structure</th><th>Volume</th><th>Slices</th>"
        "<th>Mean confidence</th><th>To review</th></tr></thead><tbody>",
        *(_row(row) for row in rows),
        "</tbody></table></body></html>\n",
    ]
    return "\n".join(lines)


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
    links = " ".join(
        f'<a href="{quote(str(row.facts[key]))}">{key}</a>' for key in ("result", "report") if row.facts.get(key)
    )
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
