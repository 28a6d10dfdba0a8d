"""report.html: one self-contained page with the figures, three plots and two stories; light or dark
as the reader is.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from h2q.core.units import format_bytes, format_seconds
from h2q.demo import sheet
from h2q.demo.plots import (
    Point,
    Span,
    TensorError,
    error_per_tensor,
    quality_against_bytes,
    time_line,
)


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
        sheet.cards(cards),
        sheet.section("Quality against bytes", quality_against_bytes(_points(certificate))),
        sheet.section("Every prefix is a model", _prefixes(certificate)),
        sheet.section("Error of every tensor", error_per_tensor(_errors(certificate))),
        sheet.section("From process to first token", time_line(_spans(report))),
        sheet.section("What it writes", _stories(report)),
    ]
    return sheet.document("H2Q-Evo demo", parts)


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
    return sheet.table(
        names,
        [
            (
                _label(p["groups"]),
                format_bytes(p["bytes"]),
                f"{p['ratio_fp32']:.2f}",
                f"{p['quality']:.4f}",
                f"{p['kl_mean']:.4f}",
                f"{p['top1_agreement']:.1%}",
            )
            for p in certificate["prefixes"]
        ],
    )


def _stories(report: dict[str, Any]) -> str:
    return "".join(
        f"<h2>{escape(name)}</h2><blockquote>{escape(text)}</blockquote>"
        for name, text in report["stories"].items()
    )
