"""The measurements behind a tower's defaults: how many columns to commit at a time and to look at
beyond, and how much to damp the moments of each plane.

    python tools/tower_search/measure.py blocks
    python tools/tower_search/measure.py damping --every 5

`blocks` codes a unit Gaussian and the 256 x 1024 case of `h2q bench codec`. `damping` codes
matrices of the seed model, its moments collected on text sampled from the model itself, and
measures what is lost under moments of other sampled text that no plane was shaped by. Both print
Markdown tables for docs/lab/LOG.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.bench.codec import excess_bits, gaussian, uneven_moments
from h2q.core.architecture import tensors
from h2q.crystallize.growing import read_rotated
from h2q.crystallize.moments import FloatArray, Moments, TokenArray
from h2q.crystallize.row_costs import row_costs
from h2q.crystallize.sampling import sample_text
from h2q.crystallize.texts import CALIBRATION_SEED, MEASURE_SEED, TEMPERATURES
from h2q.crystallize.towers import (
    Encoded,
    Matrix,
    TowerPlan,
    add_plane,
    encode_tower,
)
from h2q.engine import Model, load_original
from h2q.geometry.rotation import rotation
from h2q.sources import open_source

SEED_MODEL = Path(__file__).parents[2] / "src" / "h2q" / "assets" / "seed"
SEED = 0  # of the rotation
BLOCKS = ((8, 20), (8, 24), (12, 20), (12, 24), (16, 20), (16, 24), (16, 32))
BASE_DAMPINGS = (0.03, 0.1, 0.3, 0.6, 1.0, 1e6)  # the last: no feedback
BETWEEN = (0.2, 0.6, 1.0)  # dampings of planes between the base and the last
LAST_DAMPINGS = (0.1, 0.2)
ONE_SHOT = 0.0045 / 0.0699  # loss of a four-bit code over that of a two-bit one (trellis.md)


@dataclass(frozen=True)
class Layer:
    """A matrix with the moments it is coded under, and others to measure its loss under."""

    matrix: Matrix
    held_out: Moments

    def loss(self, encoded: Encoded) -> float:
        """tr(E H E^T) / tr(W H W^T) under the held-out moments."""
        whole = row_costs(self.matrix.weights, self.held_out).sum()
        return float(row_costs(encoded.rest, self.held_out).sum() / whole)


def moments(model: Model, texts: Iterable[TokenArray]) -> dict[str, Moments]:
    """Second moments, rotated, float64, of what every matrix of the original reads, by `reads`
    name.
    """
    sums: dict[str, Moments] = {}
    count = 0

    def observe(reads: str, x: FloatArray) -> None:
        turned = kernels.rotate(np.ascontiguousarray(x), rotation(SEED, x.shape[1]))
        sums[reads] = sums.get(reads, 0.0) + (turned.T @ turned).astype(np.float64)

    model.observer = observe
    for text in texts:
        model.forward(text, model.new_cache(*text.shape))
        count += text.size
    model.observer = None
    return {reads: total / count for reads, total in sums.items()}


def seed_layers(every: int) -> list[Layer]:
    """Every so many of the seed model's matrices, the embedding aside."""
    source = open_source(SEED_MODEL)
    original = load_original(source)
    texts = [
        sample_text(original, 6, 384, CALIBRATION_SEED + index, heat)
        for index, heat in enumerate(TEMPERATURES)
    ]
    shaping = moments(original, texts)
    held_out = moments(original, [sample_text(original, 8, 384, MEASURE_SEED)])
    linear = [t for t in tensors(source.spec) if t.kind == "linear"]
    return [
        Layer(
            Matrix(t.name, read_rotated(source, t.name, SEED), shaping[t.reads]), held_out[t.reads]
        )
        for t in linear[::every]
    ]


def losses(layers: list[Layer], plan: TowerPlan) -> npt.NDArray[np.float64]:
    """Of every layer's tower: its base, and all of it, (2, layers)."""
    towers = [encode_tower(layer.matrix, plan) for layer in layers]
    return np.array(
        [
            [layer.loss(tower[end]) for layer, tower in zip(layers, towers, strict=True)]
            for end in (0, -1)
        ]
    )


def damping(layers: list[Layer]) -> None:
    """Losses of towers by the damping of the planes that others follow and of the last one. Bases,
    as they stand in a tower of 2+2 and of 2+1+1, and 2+1 are relative to the matrix's own best base
    alone; four bits to the one-shot code that goes with it; then the mean.
    """
    alone = [losses(layers, TowerPlan((2,), (d,)))[1] for d in BASE_DAMPINGS]
    best = np.min(alone, axis=0)
    print(f"{len(layers)} matrices, their best bases lose {best.min():.4f} to {best.max():.4f}\n")
    print(
        "| base | between | last | base alone | base in 2+2 | 2+2 | 2+1 | base in 2+1+1 | 2+1+1 |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for (base, single), (between, last) in product(
        zip(BASE_DAMPINGS, alone, strict=True), product(BETWEEN, LAST_DAMPINGS)
    ):
        pair = losses(layers, TowerPlan((2, 2), (base, last)))
        three = losses(layers, TowerPlan((2, 1), (base, last)))
        deep = losses(layers, TowerPlan((2, 1, 1), (base, between, last)))
        found = (single, pair[0], pair[1] / ONE_SHOT, three[1], deep[0], deep[1] / ONE_SHOT)
        figures = " | ".join(f"{float(np.mean(loss / best)):.3f}" for loss in found)
        print(f"| {base:g} | {between:g} | {last:g} | {figures} |", flush=True)


def blocks(cases: Iterable[tuple[int, int]]) -> None:
    """Loss and speed by columns committed and looked at, K=2; speed on one core."""
    x, weights, moments = gaussian((256, 784)), gaussian((256, 1024), 1), uneven_moments(1024)
    plain, shaped = Matrix("a Gaussian", x), Matrix("a Gaussian matrix", weights, moments)
    kernels.set_threads(1)
    print(
        "| commit | look-ahead | MSE | excess bits | proxy loss | weights/s |\n"
        "|---|---|---|---|---|---|"
    )
    for commit, lookahead in cases:
        loss = add_plane(plain, None, 2, 0.0, commit, lookahead).mse
        proxy = add_plane(shaped, None, 2, 0.0, commit, lookahead).error
        times = []
        for _ in range(2):
            began = time.perf_counter()
            kernels.encode_plane(x * np.float32(27), 2, None, commit, lookahead)
            times.append(time.perf_counter() - began)
        figures = f"{loss:.5f} | {excess_bits(2, loss):.4f} | {proxy:.5f}"
        print(f"| {commit} | {lookahead} | {figures} | {x.size / min(times):,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("blocks", "damping"))
    parser.add_argument("--every", type=int, default=1, help="take one matrix in so many")
    arguments = parser.parse_args()
    if arguments.what == "blocks":
        blocks(BLOCKS)
    else:
        damping(seed_layers(arguments.every))


if __name__ == "__main__":
    main()
