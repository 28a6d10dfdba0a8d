"""report.html: one self-contained page with the figures, three plots and two stories; light or dark
as the reader is.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from h2q.core.units import format_bytes, format_seconds
from h2q.demo.plots import (
    Point,
    Span,
    TensorError,
    error_per_tensor,
    quality_against_bytes,
    time_line,
)

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
"""


def write_page(path: Path, report: dict[str, Any]) -> None:
    """Write the page. Raises OSError."""
    path.write_text(page(report), encoding="utf-8")


def page(report: dict[str, Any]) -> str:
    """The HTML of a report."""
    certificate = report["certificate"]
    cards = [
        (f"{report['ratio_fp32']:.1f}x", "smaller than float32"),
        (f"{report['quality']:.1%}", "quality kept"),
        (format_seconds(report["first_token_seconds"]), "process start to first token"),
        (f"{report['tokens_per_second']:.0f}", "tokens per second"),
        (format_bytes(report["peak_rss_bytes"]), "peak memory"),
    ]
    parts = [
        "<h1>A model grown into a crystal</h1>",
        f'<p class="lead">{format_bytes(report["original_bytes_fp32"])} of float32 weights became '
        f"{format_bytes(report['crystal_bytes'])}. Every figure was measured in the run that wrote "
        f"this page, quality on {certificate['text']['tokens']:,} tokens "
        f"{escape(certificate['text']['measured_on'])}.</p>",
        '<div class="cards">',
        *(f'<div class="card"><b>{v}</b><span>{escape(n)}</span></div>' for v, n in cards),
        "</div>",
        _section("Quality against bytes", quality_against_bytes(_points(certificate))),
        _section("Every prefix is a model", _prefixes(certificate)),
        _section("Error of every tensor", error_per_tensor(_errors(certificate))),
        _section("From process to first token", time_line(_spans(report))),
        _section("What it writes", _stories(report)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>H2Q-Evo demo</title><style>{STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _points(certificate: dict[str, Any]) -> list[Point]:
    points = [Point(_label(p["groups"]), p["bytes"], p["quality"]) for p in certificate["prefixes"]]
    return [*points, Point("original, bfloat16", certificate["original_bytes_bf16"], 1.0, True)]


def _label(groups: int) -> str:
    return "base" if groups == 0 else f"base + {groups}"


def _errors(certificate: dict[str, Any]) -> list[TensorError]:
    return [
        TensorError(row["tensor"], float(sum(row["bits"])), row["error"])
        for row in certificate["layers"]
    ]


def _spans(report: dict[str, Any]) -> list[Span]:
    """The child's own stages; what the parent waited longer than that is making the process and the
    pipe.
    """
    spans, last = [], 0.0
    for row in report["timeline"]:
        spans.append(Span(row["stage"], last, row["seconds"], row["bytes"]))
        last = row["seconds"]
    return spans


def _prefixes(certificate: dict[str, Any]) -> str:
    names = ("planes", "bytes", "ratio", "quality", "mean KL", "same first choice")
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    rows = [
        f"<tr><td>{_label(p['groups'])}</td><td>{format_bytes(p['bytes'])}</td>"
        f"<td>{p['ratio_fp32']:.2f}</td><td>{p['quality']:.4f}</td><td>{p['kl_mean']:.4f}</td>"
        f"<td>{p['top1_agreement']:.1%}</td></tr>"
        for p in certificate["prefixes"]
    ]
    return f"<table>{head}{''.join(rows)}</table>"


def _stories(report: dict[str, Any]) -> str:
    return "".join(
        f"<h2>{escape(name)}</h2><blockquote>{escape(text)}</blockquote>"
        for name, text in report["stories"].items()
    )
