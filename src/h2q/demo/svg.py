"""The few SVG shapes our plots need, as strings; colours are CSS classes so that a page can be
light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


def number(value: float) -> str:
    """A coordinate with at most two decimals: 12.50 -> '12.5'."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text(x: float, y: float, content: str, css: str = "label", anchor: str = "middle") -> str:
    """A line of text; `anchor` is start, middle or end."""
    return (
        f'<text x="{number(x)}" y="{number(y)}" class="{css}" text-anchor="{anchor}">'
        f"{escape(content)}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str = "grid") -> str:
    """A straight line."""
    return (
        f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" '
        f'class="{css}"/>'
    )


def rect(x: float, y: float, width: float, height: float, css: str, title: str = "") -> str:
    """A bar with slightly round corners; `title` is shown when pointed at."""
    return (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(max(width, 0))}" '
        f'height="{number(max(height, 0))}" rx="2" class="{css}">'
        f"<title>{escape(title)}</title></rect>"
    )


def circle(x: float, y: float, radius: float, css: str, title: str = "") -> str:
    """A point; `title` is shown when pointed at."""
    return (
        f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" class="{css}">'
        f"<title>{escape(title)}</title></circle>"
    )


def path(points: Sequence[tuple[float, float]], css: str, title: str = "") -> str:
    """A line through points; `title` is shown when pointed at."""
    joined = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    inner = f"<title>{escape(title)}</title>" if title else ""
    return f'<polyline points="{joined}" class="{css}">{inner}</polyline>'


def figure(width: float, height: float, shapes: Sequence[str], description: str) -> str:
    """A drawing that scales with its column; `description` is what a screen reader says."""
    return (
        f'<svg viewBox="0 0 {number(width)} {number(height)}" role="img" '
        f'aria-label="{escape(description, quote=True)}">{"".join(shapes)}</svg>'
    )


@dataclass(frozen=True)
class Scale:
    """Maps values from `low`..`high` to pixels `start`..`end`, by logarithm when `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers between two bounds, steps of 1, 2, 2.5 or 5 times a power of
    ten.
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def doublings(low: float, high: float) -> list[float]:
    """Powers of two between two bounds: the ticks of a logarithmic axis of bytes."""
    return [
        2.0**power for power in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    ]


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two positive bounds: the ticks of a logarithmic
    axis; the powers alone where those are many.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if last - first > 3 else (1, 2, 5)
    found = [s * 10.0**power for power in range(first, last + 1) for s in steps]
    return [value for value in found if low <= value <= high] or [low]
