"""What the code loses and how quickly it encodes, through the encoder that crystals are grown with.

Every row holds its `figure`, of `what`, and where one is set its `target` and whether it `holds`.
Distortion is that of 256 x 784 samples of a unit Gaussian, relative to their power; "one long
trellis" is each of a panel's 64 lanes coded in one piece. The proxy loss is tr(E H E^T) / tr(W H
W^T) of a 256 x 1024 Gaussian matrix, moments H with eigenvalues 1/i in a random basis, damped by a
hundredth of their mean.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.bench.machine import machine
from h2q.bench.scalar import rounded
from h2q.codec.constants import UNIT
from h2q.core import settings
from h2q.core.events import Progress, ProgressListener, silent
from h2q.core.specs import PlaneSpec
from h2q.crystallize.factor import damped
from h2q.crystallize.moments import Moments, feedback
from h2q.crystallize.row_costs import row_costs
from h2q.crystallize.towers import (
    COMMIT,
    LOOKAHEAD,
    Matrix,
    TowerPlan,
    encode_tower,
)

FloatArray = npt.NDArray[np.float32]
Row = dict[str, Any]

SAMPLES: Final = (256, 784)
PROXY_SHAPE: Final = (256, 1024)
SPEED_SHAPE: Final = (512, 1024)
TWIN_COLUMNS = 32
REPEATS = 3

DISTORTION: Final = {(2,): 0.0702, (1,): 0.2675}  # targets: the most that may be lost
SHIPPED_DISTORTION: Final = {(2,): 0.0707, (1,): None}
TOWERS: Final = {(1, 1): 0.0715, (2, 1): 0.0190, (2, 2): None, (2, 1, 1): 0.0052}
PROXY_LOSS: Final = 0.0298
# The least, weights per second on one core.
SPEED: Final = {"amx": 3.0e6, "avx512": 3.0e6, "avx2": 1.2e6}


def bench_codec(progress: ProgressListener = silent) -> dict[str, Any]:
    """Distortion, proxy loss and speed of encoding; about half a minute."""
    steps: list[Callable[[], dict[str, Row]]] = [_distortion, _shipped, _towers, _proxy, _speed]
    results: dict[str, Row] = {}
    for index, step in enumerate(steps):
        results |= step()
        progress(Progress("bench codec", index + 1, len(steps)))
    return {"machine": machine(), "results": results}


def gaussian(shape: tuple[int, int], seed: int = 0) -> FloatArray:
    """A unit Gaussian, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def uneven_moments(width: int, seed: int = 0) -> Moments:
    """Eigenvalues 1/i in a random basis, damped by a hundredth of their mean: float64 (width,
    width).
    """
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))
    return damped((basis / np.arange(1, width + 1)) @ basis.T, 0.01)


def proxy_loss(error: FloatArray, weights: FloatArray, moments: Moments) -> float:
    """tr(E H E^T) / tr(W H W^T)."""
    return float(row_costs(error, moments).sum() / row_costs(weights, moments).sum())


def excess_bits(bits: int, loss: float) -> float:
    """Bits per weight above what a Gaussian needs at this loss: R(D) = -log2(D) / 2 (Shannon
    1959).
    """
    return bits + math.log2(loss) / 2


def _distortion() -> dict[str, Row]:
    x, width = gaussian(SAMPLES), SAMPLES[1]
    return {
        f"mse {bits[0]}, one long trellis": _loss(bits, _coded(x, bits[0], width, 0), target)
        for bits, target in DISTORTION.items()
    }


def _shipped() -> dict[str, Row]:
    x = gaussian(SAMPLES)
    return {
        f"mse {bits[0]}, committed in blocks": _loss(bits, _coded(x, bits[0]), target)
        for bits, target in SHIPPED_DISTORTION.items()
    }


def _coded(x: FloatArray, bits: int, commit: int = COMMIT, lookahead: int = LOOKAHEAD) -> float:
    """Loss of one plane at the constants' own scale."""
    codes = kernels.encode_plane(x * np.float32(UNIT[bits]), bits, None, commit, lookahead)
    error = x - kernels.decode_plane(PlaneSpec(bits, *x.shape), codes) / np.float32(UNIT[bits])
    return float(np.mean(error**2, dtype=np.float64) / np.mean(x**2, dtype=np.float64))


def _towers() -> dict[str, Row]:
    """Row scales fitted per plane, each plane one long trellis."""
    matrix = Matrix("a unit Gaussian", gaussian(SAMPLES))
    rows = {}
    for bits, target in TOWERS.items():
        plan = TowerPlan(bits, (0.0,) * len(bits), commit=SAMPLES[1], lookahead=0)
        rows[f"mse {plan}, one long trellis"] = _loss(
            bits, encode_tower(matrix, plan)[-1].mse, target
        )
    return rows


def _loss(bits: tuple[int, ...], loss: float, target: float | None) -> Row:
    total = sum(bits)
    row: Row = {"figure": loss, "what": "mean squared error", "shannon": 4.0**-total}
    row["excess_bits"] = excess_bits(total, loss)
    return row | _most(loss, target)


def _most(figure: float, target: float | None) -> Row:
    return {} if target is None else {"target": target, "holds": figure <= target}


def _least(figure: float, target: float | None) -> Row:
    return {} if target is None else {"target": target, "holds": figure >= target}


def _proxy() -> dict[str, Row]:
    weights, moments = gaussian(PROXY_SHAPE, 1), uneven_moments(PROXY_SHAPE[1])
    shape, narrow = feedback(moments), moments.astype(np.float32)
    plain = proxy_loss(weights - rounded(weights, None, narrow), weights, moments)
    fed = proxy_loss(weights - rounded(weights, shape, narrow), weights, moments)
    plan = TowerPlan((2,), (0.0,))
    ours = encode_tower(Matrix("a Gaussian matrix", weights, moments), plan)[-1].error
    open_loop = encode_tower(Matrix("a Gaussian matrix", weights), plan)[-1].rest
    rows = {
        "proxy loss 2, trellis with feedback": _most(ours, PROXY_LOSS) | {"figure": ours},
        "proxy loss 2, trellis without feedback": {
            "figure": proxy_loss(open_loop, weights, moments)
        },
        "proxy loss 2, scalar with feedback (GPTQ)": {"figure": fed},
        "proxy loss 2, scalar to nearest": {"figure": plain},
    }
    return {
        name: {"what": "proxy loss", "ratio_to_scalar_feedback": row["figure"] / fed} | row
        for name, row in rows.items()
    }


def _speed() -> dict[str, Row]:
    """Every native path on one core and on all, against the NumPy twin on a few columns and against
    scalar rounding with feedback in NumPy.
    """
    weights, moments = gaussian(SPEED_SHAPE), uneven_moments(SPEED_SHAPE[1])
    shape = feedback(moments)
    target = weights * np.float32(UNIT[2])
    scalar = weights.size / _best(
        lambda: rounded(weights, shape, np.asarray(moments, np.float32)), 1
    )
    small = np.ascontiguousarray(target[:256, :TWIN_COLUMNS])
    corner = np.ascontiguousarray(shape[:TWIN_COLUMNS, :TWIN_COLUMNS])
    with kernels.using("numpy"):
        twin = small.size / _best(lambda: kernels.encode_plane(small, 2, corner), 1)
    rows: dict[str, Row] = {
        "encode 2, NumPy twin": {"figure": twin, "threads": 1},
        "scalar with feedback (GPTQ) in NumPy": {"figure": scalar},
    }
    encode = partial(kernels.encode_plane, target, 2, shape)
    for path, threads in _ways():
        with kernels.using(path):
            kernels.set_threads(threads)
            speed = weights.size / _best(encode, REPEATS)
        goal = SPEED.get(path) if threads == 1 else None
        rows[f"encode 2, {path}, {threads} thread{'s' * (threads > 1)}"] = {
            "figure": speed,
            "threads": threads,
        } | _least(speed, goal)
    return {
        name: {"what": "weights/s", "ratio_to_twin": row["figure"] / twin}
        | {"ratio_to_scalar_feedback": row["figure"] / scalar}
        | row
        for name, row in rows.items()
    }


def _ways() -> Iterator[tuple[str, int]]:
    """Native paths with thread counts; the pool is as it was when all are done."""
    before, cores = kernels.threads(), settings.usable_cores()
    try:
        for path in kernels.available():
            if path != "numpy":
                for threads in sorted({1, cores}):
                    yield path, threads
    finally:
        kernels.set_threads(before)


def _best(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the quickest of some runs."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
