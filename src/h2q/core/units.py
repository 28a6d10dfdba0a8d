"""Sizes and times as people read and write them."""

from __future__ import annotations

import re

from h2q.core.errors import UsageError

_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([kKMGT]?)(i?)(?:B|b)?\s*")


def parse_bytes(text: str) -> int:
    """'900MB' -> 900,000,000; '1.5GiB' -> 1,610,612,736; '4096' -> 4096. Raises UsageError."""
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise UsageError(f"{text!r} is not a size.", fix="Write 900MB, 1.5GiB or 4096.")
    power = " kMGT".index(match[2].replace("K", "k") or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def format_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """0.0123 -> '12 ms'; 75 -> '1 min 15 s'."""
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def format_count(count: float) -> str:
    """5770496 -> '5.77 M'."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(count) >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count:.0f}"
