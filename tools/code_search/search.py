"""The search behind the constants of h2q/codec/constants.py: linear maps from a 12-bit window to 32
levels.

A candidate is twelve five-bit columns; its levels follow by Lloyd's iteration (Lloyd 1982): code a
unit Gaussian, move each level to the mean of what it was chosen for, repeat. The first stage draws
maps at random and keeps the best, or takes the one it is given; the second changes a column at a
time and keeps what codes the same sample with less error, cooling down; the third fits the
survivors' levels on a longer sample and measures them on one nobody has seen. Every coding is done
by the product's own encoder with levels as whole numbers, so what is found is what is shipped.

    python tools/code_search/search.py 2 --minutes 20 --seed 1 --log tools/code_search/log.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.codec.constants import LEVEL_LIMIT, STATES, WINDOW
from h2q.codec.decode import trellis_states, unpack_symbols
from h2q.codec.layout import PanelLayout
from h2q.core.specs import PlaneSpec
from h2q.kernels import extension

ROWS = 256  # one panel: 64 trellises side by side
INDICES = 32
Columns = tuple[int, ...]
Levels = npt.NDArray[np.float64]


def sample(cols: int, seed: int) -> npt.NDArray[np.float32]:
    """A unit Gaussian, (ROWS, cols)."""
    return np.random.default_rng(seed).standard_normal((ROWS, cols)).astype(np.float32)


def index_table(columns: Columns) -> npt.NDArray[np.int64]:
    """Level index of every state, (STATES,)."""
    states, index = np.arange(STATES), np.zeros(STATES, np.int64)
    for bit, column in enumerate(columns):
        index ^= np.where(states >> bit & 1, column, 0)
    return index


def code(
    bits: int, columns: Columns, levels: Levels, x: npt.NDArray[np.float32], commit: int, look: int
) -> tuple[float, npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Relative error of a sample, and for every weight in trellis order its index and target."""
    unit = LEVEL_LIMIT / np.abs(levels).max()
    whole = np.rint(levels * unit).astype(np.int8)
    extension.set_code(bits, columns, whole)
    spec = PlaneSpec(bits, *x.shape)
    layout = PanelLayout.of(spec)
    codes = kernels.encode_plane(x * np.float32(unit), bits, None, commit, look)
    index = index_table(columns)[trellis_states(bits, unpack_symbols(spec, codes))]
    grid = x.reshape(layout.panels, layout.steps, 16, -1, 4).transpose(0, 3, 1, 2, 4)
    targets = np.ascontiguousarray(grid).reshape(index.shape)
    error = np.mean((targets - whole[index] / unit) ** 2) / np.mean(x**2)
    return float(error), index, targets


def fit(
    bits: int, columns: Columns, x: npt.NDArray[np.float32], rounds: int, levels: Levels | None
) -> tuple[float, Levels]:
    """Lloyd's iteration from the given levels, or from the quantiles of the Gaussian."""
    if levels is None:
        levels = np.quantile(x, (np.arange(INDICES) + 0.5) / INDICES).astype(np.float64)
    best = np.inf, levels
    for _ in range(rounds):
        error, index, targets = code(bits, columns, levels, x, x.shape[1], 0)
        if error < best[0]:
            best = error, levels
        count = np.bincount(index.ravel(), minlength=INDICES)
        total = np.bincount(index.ravel(), targets.ravel(), INDICES)
        levels = np.where(count > 0, total / np.maximum(count, 1), levels)
    return best


def spans(columns: Columns) -> bool:
    """Whether every index is reached, and by a window that uses its oldest symbol."""
    reach = {0}
    for column in columns:
        reach |= {index ^ column for index in reach}
    return len(reach) == INDICES and any(columns[-2:])


def changed(draw: np.random.Generator, columns: Columns) -> Columns:
    """One column drawn again, one bit flipped, or two columns exchanged."""
    out = list(columns)
    at, other = draw.choice(WINDOW, 2, replace=False)
    kind = draw.integers(3)
    if kind == 0:
        out[at] = int(draw.integers(INDICES))
    elif kind == 1:
        out[at] ^= 1 << int(draw.integers(5))
    else:
        out[at], out[other] = out[other], out[at]
    return tuple(out)


def search(bits: int, minutes: float, seed: int, start: Columns | None, log: Path | None) -> None:
    draw = np.random.default_rng(seed)
    small, middle = sample(64, seed), sample(256, seed + 1)
    long, unseen = sample(1024, seed + 2), sample(1024, seed + 3)
    end = time.monotonic() + 60 * minutes
    pool: list[tuple[float, Columns]] = [(0.0, start)] if start is not None else []
    tried = 0
    while start is None and time.monotonic() < end - 60 * minutes * 0.7:
        columns = tuple(int(c) for c in draw.integers(0, INDICES, WINDOW))
        if spans(columns):
            pool.append((fit(bits, columns, small, 4, None)[0], columns))
            tried += 1
    pool = sorted(pool)[:6]
    rest = end - time.monotonic()
    for turn, (_, columns) in enumerate(pool):
        until = end - rest * (1 - (turn + 1) / len(pool))
        now, levels = fit(bits, columns, middle, 8, None)
        best = now, columns, levels
        began = time.monotonic()
        while time.monotonic() < until:
            heat = 4e-4 * now * max(0.0, 1 - (time.monotonic() - began) / (0.8 * (until - began)))
            candidate = changed(draw, columns)
            if not spans(candidate):
                continue
            tried += 1
            error, fitted = fit(bits, candidate, middle, 3, levels)
            if error > now * 1.004:
                continue
            error, fitted = fit(bits, candidate, middle, 4, fitted)
            if error < now + heat * draw.exponential():
                now, columns, levels = error, candidate, fitted
                if now < best[0]:
                    best = now, columns, levels
        error, levels = fit(bits, best[1], long, 12, best[2])
        judged = code(bits, best[1], levels, unseen, unseen.shape[1], 0)[0]
        row = {"bits": bits, "seed": seed, "tried": tried, "fitted": error, "unseen": judged}
        row |= {"columns": best[1], "levels": [round(float(v), 4) for v in levels]}
        print(json.dumps(row), flush=True)
        if log is not None:
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bits", type=int, choices=(1, 2))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=json.loads, help="columns to improve, as a JSON list")
    parser.add_argument("--log", type=Path)
    given = parser.parse_args()
    start = tuple(given.start) if given.start else None
    search(given.bits, given.minutes, given.seed, start, given.log)
