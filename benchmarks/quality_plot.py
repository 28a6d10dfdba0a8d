"""The frontier as a drawing: KL divergence against bytes, both on logarithmic axes, a panel for
each text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from h2q.core.units import format_bytes
from h2q.demo import svg
from quality_frontier import Entry, frontier

WIDTH, PANEL = 760.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 30.0, 52.0, 50.0
FLOOR = 1e-4  # what loses less is left out: it would take half of the drawing
STYLE = (
    "svg{background:#fff}text{fill:#1d2330;font:12px system-ui,sans-serif}"
    ".label,.caption{fill:#667085}.small{fill:#98582f;font-size:10px}.name{font-weight:600}"
    ".grid{stroke:#e4e4de}.axis{stroke:#667085}.curve{fill:none;stroke:#2f6fed;stroke-width:2}"
    ".dot{fill:#2f6fed}.faint{fill:#b9cdf8}.hollow{fill:#fff;stroke:#e2703a;stroke-width:2}"
    ".plain{fill:#f3c3a9}"
)


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two bounds."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    return [value for value in found if low <= value <= high]


def drawing(texts: Sequence[str], theirs: Sequence[Entry], ours: Sequence[Entry]) -> str:
    """A whole SVG document. A peer's file made without an importance matrix, where there is one
    with, is drawn pale.
    """
    shapes: list[str] = []
    for index, text in enumerate(texts):
        shapes += _panel(text, theirs, ours, index * PANEL)
    what = "Mean KL divergence from the float32 original against bytes: h2q and llama.cpp"
    figure = svg.figure(WIDTH, PANEL * len(texts), shapes, what)
    head, _, body = figure.partition(">")
    space = '<svg xmlns="http://www.w3.org/2000/svg" '
    return f"{head.replace('<svg ', space, 1)}><style>{STYLE}</style>{body}\n"


def _panel(text: str, theirs: Sequence[Entry], ours: Sequence[Entry], down: float) -> list[str]:
    theirs = [entry for entry in theirs if entry.results[text].kl_mean >= FLOOR]
    ours = [entry for entry in ours if entry.results[text].kl_mean >= FLOOR]
    entries = [*theirs, *ours]
    losses = [entry.results[text].kl_mean for entry in entries]
    sizes = [entry.bytes for entry in entries]
    bottom = down + PANEL - BOTTOM
    x = svg.Scale(min(sizes) / 1.2, max(sizes) * 1.2, LEFT, WIDTH - RIGHT, log=True)
    y = svg.Scale(min(losses) / 1.5, max(losses) * 1.5, bottom, down + TOP, log=True)
    shapes = [
        svg.text(LEFT, down + 18, text, "name", "start"),
        svg.text(
            LEFT, down + 36, "mean KL divergence from float32, nats per token", "caption", "start"
        ),
        svg.circle(WIDTH - 206, down + 14, 5, "dot", "h2q"),
        svg.text(WIDTH - 194, down + 18, "h2q, whole crystals and prefixes", "label", "start"),
        svg.circle(WIDTH - 206, down + 32, 5, "hollow", "llama.cpp"),
        svg.text(WIDTH - 194, down + 36, "llama.cpp (pale: no imatrix)", "label", "start"),
        svg.line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"),
        svg.text((LEFT + WIDTH - RIGHT) / 2, bottom + 40, "bytes, tokenizer left out", "caption"),
    ]
    for value in decades(y.low, y.high):
        shapes += [
            svg.line(LEFT, y(value), WIDTH - RIGHT, y(value)),
            svg.text(LEFT - 8, y(value) + 4, f"{value:g}", anchor="end"),
        ]
    whole = svg.doublings(x.low / 2, x.high)
    for value in sorted(v for v in [*whole, *(1.5 * v for v in whole)] if x.low <= v <= x.high):
        shapes += [
            svg.line(x(value), bottom, x(value), bottom + 5, "axis"),
            svg.text(x(value), bottom + 20, format_bytes(value).replace(".0 ", " ")),
        ]

    def place(entry: Entry) -> tuple[float, float]:
        return x(entry.bytes), y(entry.results[text].kl_mean)

    def dot(entry: Entry, css: str, radius: float) -> str:
        title = f"{entry.name}: {entry.bytes:,} bytes, KL {entry.results[text].kl_mean:.3g}"
        return svg.circle(*place(entry), radius, css, title)

    edge = frontier(ours, text)
    shapes.append(svg.path([place(entry) for entry in edge], "curve"))
    shapes += [dot(entry, "dot" if entry in edge else "faint", 4) for entry in ours]
    better = {entry.name.split()[0] for entry in theirs if " " in entry.name}
    for entry in theirs:
        if entry.name in better:
            shapes.append(dot(entry, "plain", 4))
            continue
        shapes.append(dot(entry, "hollow", 5))
        at, level = place(entry)
        name, crowded = entry.name.split()[0], entry.name.startswith("IQ3")
        to, lift, anchor = (-8, 14, "end") if crowded else (8, -5, "start")
        shapes.append(svg.text(at + to, level + lift, name, "small", anchor))
    return shapes
