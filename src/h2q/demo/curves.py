"""Two plots for any figures: curves over a common axis, and horizontal bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from h2q.demo import svg
from h2q.demo.plots import LEFT, RIGHT, WIDTH

COLOURS = 8
HEIGHT, TOP, BOTTOM = 340.0, 52.0, 52.0


@dataclass(frozen=True)
class Curve:
    """Points (x, y), rising in x. Curves of one `legend` share a colour and one legend entry;
    `title` is shown when pointed at. `thin` ones are drawn without dots.
    """

    legend: str
    points: tuple[tuple[float, float], ...]
    title: str = ""
    thin: bool = False


@dataclass(frozen=True)
class Axis:
    """`name` is the caption; `show` makes a label of a value. `log` needs positive
    values; `doublings` is for bytes.
    """

    name: str
    show: Callable[[float], str] = field(default="{:g}".format)
    log: bool = False
    doublings: bool = False

    def bounds(self, values: Sequence[float]) -> tuple[float, float]:
        """Of a scale that leaves some air around the values."""
        low, high = min(values), max(values)
        if self.log:
            return low / 1.25, high * 1.25
        air = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        return (low if low >= 0 and low < high * 0.5 else low - air), high + air

    def ticks(self, low: float, high: float) -> list[float]:
        """Where labels stand."""
        if self.doublings:
            return svg.doublings(low, high) if high > 8 * low else _sizes(low, high)
        return svg.decades(low, high) if self.log else svg.ticks(low, high)


def exact_bytes(count: float) -> str:
    """A tick of an axis of bytes, with all its digits: 1310720 -> '1.25 MiB'."""
    power = min(4, max(0, math.floor(math.log(max(count, 1), 1024) + 1e-9)))
    return f"{count / 1024**power:g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def _sizes(low: float, high: float) -> list[float]:
    """Round numbers of the largest binary unit below two bounds that lie near each other."""
    unit = 1024.0 ** max(0, math.floor(math.log(low, 1024)))
    return [value * unit for value in svg.ticks(low / unit, high / unit)] or [low]


def curves(
    lines: Sequence[Curve], x: Axis, y: Axis, description: str, bounds: Sequence[float] = ()
) -> str:
    """Curves over common axes; `bounds` are dashed levels of y."""
    points = [point for curve in lines for point in curve.points]
    low, high = x.bounds([px for px, _ in points])
    across = svg.Scale(low, high, LEFT, WIDTH - RIGHT, log=x.log)
    bottom, top = y.bounds([*(py for _, py in points), *bounds])
    up = svg.Scale(bottom, top, HEIGHT - BOTTOM, TOP, log=y.log)
    shapes = []
    for value in y.ticks(bottom, top):
        shapes += [
            svg.line(LEFT, up(value), WIDTH - RIGHT, up(value)),
            svg.text(LEFT - 8, up(value) + 4, y.show(value), anchor="end"),
        ]
    for value in x.ticks(low, high):
        shapes += [
            svg.line(across(value), HEIGHT - BOTTOM, across(value), HEIGHT - BOTTOM + 5, "axis"),
            svg.text(across(value), HEIGHT - BOTTOM + 20, x.show(value)),
        ]
    shapes += [
        svg.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"),
        svg.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x.name, "caption"),
        svg.text(LEFT, 14, y.name, "caption", "start"),
    ]
    for level in bounds:
        shapes.append(svg.line(LEFT, up(level), WIDTH - RIGHT, up(level), "bound"))
    legends = list(dict.fromkeys(curve.legend for curve in lines))
    for curve in lines:
        colour = legends.index(curve.legend) % COLOURS
        placed = [(across(px), up(py)) for px, py in curve.points]
        css = f"{'thin' if curve.thin else 'line'} ink{colour}"
        shapes.append(svg.path(placed, css, curve.title or curve.legend))
        if not curve.thin:
            for (px, py), (at, height) in zip(curve.points, placed, strict=True):
                title = f"{curve.legend}, {x.show(px)}: {py:.4g}"
                shapes.append(svg.circle(at, height, 4, f"kind{colour}", title))
    return svg.figure(WIDTH, HEIGHT, [*shapes, *legend(legends)], description)


def legend(names: Sequence[str]) -> list[str]:
    """Coloured squares with names, above the plot; as many as fit."""
    shapes, place = [], LEFT
    for index, name in enumerate(names):
        if place + 14 + 6.9 * len(name) > WIDTH:
            break
        shapes.append(svg.rect(place, 26, 10, 10, f"kind{index % COLOURS}", name))
        shapes.append(svg.text(place + 14, 35, name, anchor="start"))
        place += 26 + 6.9 * len(name)
    return shapes


def bars(rows: Sequence[tuple[str, float]], show: Callable[[float], str], description: str) -> str:
    """One horizontal bar per (name, value >= 0), from top to bottom."""
    row, left = 28.0, 190.0
    height = row * len(rows) + 12
    x = svg.Scale(0.0, max((v for _, v in rows), default=0.0) or 1.0, left, WIDTH - RIGHT - 90)
    shapes = []
    for index, (name, value) in enumerate(rows):
        at = 6 + row * index
        width = max(x(value) - left, 1)
        shapes += [
            svg.text(left - 12, at + 15, name, anchor="end"),
            svg.rect(left, at + 3, width, row - 10, "span", f"{name}: {show(value)}"),
            svg.text(left + width + 6, at + 15, show(value), anchor="start"),
        ]
    return svg.figure(WIDTH, height, shapes, description)
