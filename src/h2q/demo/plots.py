"""The three plots of the demo: quality against bytes, error per tensor, time line of a start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from h2q.core.units import format_bytes, format_seconds
from h2q.demo import svg

WIDTH = 760.0
LEFT, RIGHT = 64.0, 24.0


@dataclass(frozen=True)
class Point:
    """A model of `bytes` bytes that keeps `quality` (1 is the original); `original` points are
    drawn hollow.
    """

    label: str
    bytes: int
    quality: float
    original: bool = False


@dataclass(frozen=True)
class TensorError:
    """What rounding cost one matrix, relative to its output power; `bits` per weight of all its
    planes.
    """

    tensor: str
    bits: float
    error: float


@dataclass(frozen=True)
class Span:
    """A stage of the start: seconds after the process was asked for, and bytes read by its end."""

    stage: str
    begin: float
    end: float
    bytes: int = 0


def quality_against_bytes(points: Sequence[Point]) -> str:
    """One point per prefix of the crystal and the original; bytes on a logarithmic axis."""
    height, top, bottom = 380.0, 28.0, 52.0
    low = min(point.quality for point in points)
    floor = max(0.0, low - max(0.02, (1 - low) * 0.25))
    x = svg.Scale(
        min(p.bytes for p in points) / 1.25,
        max(p.bytes for p in points) * 1.25,
        LEFT,
        WIDTH - RIGHT,
        log=True,
    )
    y = svg.Scale(floor, 1.0, height - bottom, top)
    shapes = []
    for value in svg.ticks(floor, 1.0):
        shapes += [
            svg.line(LEFT, y(value), WIDTH - RIGHT, y(value)),
            svg.text(LEFT - 8, y(value) + 4, f"{value:g}", anchor="end"),
        ]
    for value in svg.doublings(x.low, x.high):
        shapes += [
            svg.line(x(value), height - bottom, x(value), height - bottom + 5, "axis"),
            svg.text(x(value), height - bottom + 20, format_bytes(value).replace(".0 ", " ")),
        ]
    shapes += [
        svg.line(LEFT, height - bottom, WIDTH - RIGHT, height - bottom, "axis"),
        svg.text((LEFT + WIDTH - RIGHT) / 2, height - 10, "bytes on disk", "caption"),
        svg.text(
            LEFT, 14, "quality (share of the original's likelihood per token)", "caption", "start"
        ),
    ]
    crystal = sorted((p for p in points if not p.original), key=lambda p: p.bytes)
    shapes.append(svg.path([(x(p.bytes), y(p.quality)) for p in crystal], "curve"))
    for point in points:
        title = f"{point.label}: {format_bytes(point.bytes)}, quality {point.quality:.4f}"
        css = "hollow" if point.original else "dot"
        shapes.append(svg.circle(x(point.bytes), y(point.quality), 6, css, title))
    for point in (crystal[0], crystal[-1], *(p for p in points if p.original)):
        # Labels sit below their point: above, the original's would leave the drawing.
        anchor = (
            "end"
            if x(point.bytes) > WIDTH * 0.8
            else "start"
            if x(point.bytes) < WIDTH * 0.2
            else "middle"
        )
        lift = 22 if point.original or point is crystal[0] else -14
        shapes.append(
            svg.text(x(point.bytes), y(point.quality) + lift, point.label, "name", anchor)
        )
    return svg.figure(
        WIDTH, height, shapes, "Quality against bytes, one point per prefix of the crystal"
    )


def error_per_tensor(errors: Sequence[TensorError]) -> str:
    """Bars from left to right in the order given, one per tensor, coloured by kind, grouped by
    layer.
    """
    height, top, bottom = 340.0, 52.0, 52.0
    highest = max((e.error for e in errors), default=0.0) or 1.0
    y = svg.Scale(0.0, highest * 1.05, height - bottom, top)
    shapes = []
    for value in svg.ticks(0.0, highest * 1.05):
        shapes += [
            svg.line(LEFT, y(value), WIDTH - RIGHT, y(value)),
            svg.text(LEFT - 8, y(value) + 4, f"{value:g}", anchor="end"),
        ]
    kinds = list(dict.fromkeys(tensor_kind(e.tensor) for e in errors))
    groups: dict[str, list[TensorError]] = {}
    for item in errors:
        groups.setdefault(_layer(item.tensor), []).append(item)
    slots = len(errors) + len(groups)  # one empty slot between groups
    slot = (WIDTH - RIGHT - LEFT) / max(slots, 1)
    # With many layers only some of their names fit.
    every = max(1, round(36 / ((WIDTH - LEFT - RIGHT) / max(len(groups), 1)) + 0.5))
    at = LEFT + slot / 2
    for index, (layer, members) in enumerate(groups.items()):
        begin = at
        for item in members:
            title = f"{item.tensor}: error {item.error:.4g}, {item.bits:g} bits"
            css = f"kind{kinds.index(tensor_kind(item.tensor)) % 8}"
            shapes.append(
                svg.rect(at, y(item.error), slot * 0.84, y(0) - y(item.error), css, title)
            )
            at += slot
        if index % every == 0:
            shapes.append(svg.text((begin + at) / 2, height - bottom + 18, layer))
        at += slot
    shapes.append(svg.line(LEFT, height - bottom, WIDTH - RIGHT, height - bottom, "axis"))
    shapes.append(svg.text(LEFT, 14, "relative error of the output", "caption", "start"))
    shapes.append(svg.text((LEFT + WIDTH - RIGHT) / 2, height - 10, "layer", "caption"))
    place = LEFT
    for index, kind in enumerate(kinds):
        shapes.append(svg.rect(place, 26, 10, 10, f"kind{index % 8}", kind))
        shapes.append(svg.text(place + 14, 35, kind, anchor="start"))
        place += 26 + 6.9 * len(kind)
    return svg.figure(WIDTH, height, shapes, "Relative error of every tensor")


def time_line(spans: Sequence[Span]) -> str:
    """Stages from top to bottom, time from left to right, from the request for a process to the
    first token.
    """
    row, top, left = 30.0, 30.0, 170.0
    height = top + row * len(spans) + 44
    end = max((span.end for span in spans), default=0.0) or 1.0
    x = svg.Scale(0.0, end, left, WIDTH - RIGHT - 70)
    shapes = []
    for value in svg.ticks(0.0, end, 6):
        shapes += [
            svg.line(x(value), top - 6, x(value), height - 40),
            svg.text(x(value), height - 24, "0" if value == 0 else format_seconds(value)),
        ]
    for index, span in enumerate(spans):
        at = top + row * index
        took = format_seconds(span.end - span.begin)
        title = (
            f"{span.stage}: {took}, from {format_seconds(span.begin)} to {format_seconds(span.end)}"
        )
        if span.bytes:
            title += f", {format_bytes(span.bytes)} read by then"
        width = max(x(span.end) - x(span.begin), 2)
        shapes += [
            svg.text(left - 12, at + 14, span.stage, anchor="end"),
            svg.rect(x(span.begin), at + 2, width, row - 12, "span", title),
            svg.text(x(span.begin) + width + 6, at + 14, took, anchor="start"),
        ]
    caption = "time since the process was asked for"
    shapes.append(svg.text((left + WIDTH - RIGHT) / 2, height - 6, caption, "caption"))
    return svg.figure(WIDTH, height, shapes, "Time line of the start, from process to first token")


def tensor_kind(tensor: str) -> str:
    """model.layers.3.mlp.up_proj.weight -> up_proj. Parts of a vocabulary are of its kind."""
    return tensor.partition(".rows.")[0].removesuffix(".weight").rsplit(".", 1)[-1]


def _layer(tensor: str) -> str:
    """model.layers.3.mlp.up_proj.weight -> 3; tensors outside of layers by their short name."""
    parts = tensor.split(".")
    if "layers" in parts and parts.index("layers") + 1 < len(parts):
        return parts[parts.index("layers") + 1]
    return {"embed_tokens": "embed", "lm_head": "head"}.get(
        tensor_kind(tensor), tensor_kind(tensor)
    )
