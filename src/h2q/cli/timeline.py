"""How a start went, drawn: a line for each stage, as long as the time it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from h2q.core.units import format_bytes, format_seconds

WIDTH = 48


def draw(stages: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of text. stages: `stage`, `seconds` since the process began, `bytes` read by then."""
    last = max((row["seconds"] for row in stages), default=0.0) or 1.0
    name = max((len(row["stage"]) for row in stages), default=0)
    lines, before = [], 0
    for row in stages:
        at = round(WIDTH * row["seconds"] / last)
        bar = " " * before + "█" * max(1, at - before)
        read = format_bytes(row["bytes"]) if row["bytes"] else ""
        when = format_seconds(row["seconds"])
        lines.append(f"{row['stage']:<{name}}  {when:>8}  {read:>10}  {bar}")
        before = min(at, WIDTH - 1)
    return lines
