"""What our HTML pages share: style, cards, sections, tables. Nothing is loaded from elsewhere;
light or dark as the reader is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --paper: #fbfbf9; --card: #fff;
  --rule: #e4e4de; --a: #2f6fed; --b: #e2703a; --c: #2a9d74; --d: #8a5cd6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaf0; --soft: #98a1b3; --paper: #14171d;
  --card: #1c2028; --rule: #2e343f; --a: #6ea0ff; --b: #ff9a66; --c: #57c79d; --d: #b594f2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 900px; padding: 2.5rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.6 system-ui, sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.02em; }
h2 { font-size: 1.1rem; margin: 0 0 .8rem; }
p.lead { color: var(--soft); margin: 0 0 2rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .9rem; }
.card, section { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; }
.card { padding: 1rem 1.1rem; }
.card b { display: block; font-size: 1.65rem; letter-spacing: -.02em; }
.card span { color: var(--soft); font-size: .85rem; }
section { padding: 1.3rem 1.4rem; margin-top: 1.2rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
td, th { text-align: right; padding: .35rem .5rem; border-bottom: 1px solid var(--rule); }
td:first-child, th:first-child { text-align: left; }
blockquote { margin: 0 0 1rem; white-space: pre-wrap; font-family: Georgia, serif; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .label, svg .caption { fill: var(--soft); }
svg .name { font-weight: 600; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--soft); }
svg .curve { fill: none; stroke: var(--a); stroke-width: 2; }
svg .dot, svg .span, svg .kind0 { fill: var(--a); }
svg .hollow { fill: var(--card); stroke: var(--b); stroke-width: 2.5; }
svg .kind1 { fill: var(--b); } svg .kind2 { fill: var(--c); } svg .kind3 { fill: var(--d); }
svg .kind4 { fill: #d4a72c; } svg .kind5 { fill: #3aa6b9; } svg .kind6 { fill: #d65f8f; }
svg .kind7 { fill: #7d8597; }
svg .line { fill: none; stroke-width: 2; } svg .thin { fill: none; stroke-width: 1; opacity: .55; }
svg .bound { stroke: var(--b); stroke-dasharray: 5 4; }
svg .ink0 { stroke: var(--a); } svg .ink1 { stroke: var(--b); } svg .ink2 { stroke: var(--c); }
svg .ink3 { stroke: var(--d); } svg .ink4 { stroke: #d4a72c; } svg .ink5 { stroke: #3aa6b9; }
svg .ink6 { stroke: #d65f8f; } svg .ink7 { stroke: #7d8597; }
td.wide { text-align: left; overflow-wrap: anywhere; }
p.note { color: var(--soft); font-size: .88rem; margin: .8rem 0 0; }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page around its parts, which are HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def lead(words: str) -> str:
    """The sentence below the heading; text, not HTML."""
    return f'<p class="lead">{escape(words)}</p>'


def section(title: str, body: str, note: str = "") -> str:
    """A card with a heading; `body` is HTML, `note` text below it."""
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{body}{below}</section>"


def cards(items: Iterable[tuple[str, str]]) -> str:
    """Large figures, each (value, what it is)."""
    inner = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name in items
    )
    return f'<div class="cards">{inner}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of figures; the first column is text."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values that may be long."""
    inner = "".join(
        f'<tr><td>{escape(name)}</td><td class="wide">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table>{inner}</table>"
