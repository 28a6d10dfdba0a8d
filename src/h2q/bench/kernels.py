"""Matrix-vector and matrix-matrix on planes, against reading the same memory and against float32
BLAS in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from h2q import kernels
from h2q.bench.machine import machine
from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane, to_bfloat16
from h2q.core.events import Progress, ProgressListener, silent
from h2q.core.specs import PlaneSpec

WIDTH = 4096
REPEATS = 7


def bench_kernels(mebibytes: int = 256, progress: ProgressListener = silent) -> dict[str, Any]:
    """Speed of `matmul_planes` on `mebibytes` of random codes: best of REPEATS runs each.

    The pure read is NumPy's sum of the same bytes as uint64, one thread; float32 is NumPy's BLAS on
    a matrix of 64 MiB.
    """
    draw = np.random.default_rng(0)
    steps: list[tuple[str, Callable[[], dict[str, float]]]] = []
    for bits in ((2,), (1,), (2, 1), (2, 2)):
        size = (mebibytes << 20) // len(bits)
        stack = [_plane(draw, b, size) for b in bits]
        for tokens in (1, 8):
            name = f"matmul {'+'.join(map(str, bits))} tokens {tokens}"
            steps.append((name, partial(_matmul, draw, stack, tokens)))
    results: dict[str, Any] = {}
    for index, (name, step) in enumerate(steps):
        results[name] = step()
        progress(Progress("bench kernels", index + 1, len(steps) + 1))
    results["float32 BLAS tokens 1"] = _blas(draw)
    progress(Progress("bench kernels", len(steps) + 1, len(steps) + 1))
    reference = results["float32 BLAS tokens 1"]["weights_per_second"]
    for row in results.values():
        row["weights_ratio_to_float32"] = row["weights_per_second"] / reference
    return {"machine": machine(), "mebibytes": mebibytes, "results": results}


def _plane(draw: np.random.Generator, bits: int, size: int) -> Plane:
    rows = max(256, size * 8 // bits // WIDTH // 256 * 256)
    spec = PlaneSpec(bits, rows, WIDTH)
    layout = PanelLayout.of(spec)
    codes = np.frombuffer(draw.bytes(layout.panels * layout.lines * 64), np.uint8)
    scales = to_bfloat16(np.full(layout.scale_count, 0.01, np.float32))
    return Plane(spec, codes.reshape(layout.code_shape), scales)


def _matmul(draw: np.random.Generator, stack: list[Plane], tokens: int) -> dict[str, float]:
    rows = min(plane.spec.rows for plane in stack)
    stack = [_rows(plane, rows) for plane in stack]
    inputs = kernels.quantize(draw.standard_normal((tokens, WIDTH)).astype(np.float32))
    seconds = _best(lambda: kernels.matmul_planes(inputs, stack))
    size = sum(plane.codes.nbytes for plane in stack)
    read = sum(_best(p.codes.reshape(-1).view(np.uint64).sum) for p in stack)
    return {
        "seconds": seconds,
        "bytes_per_second": size / seconds,
        "weights_per_second": rows * WIDTH * len(stack) / seconds,
        "multiply_adds_per_second": rows * WIDTH * len(stack) * tokens / seconds,
        "ratio_to_pure_read": read / seconds,
    }


def _rows(plane: Plane, rows: int) -> Plane:
    spec = PlaneSpec(plane.spec.bits, rows, WIDTH)
    layout = PanelLayout.of(spec)
    return Plane(spec, plane.codes[: layout.panels], plane.scales[: layout.scale_count])


def _blas(draw: np.random.Generator) -> dict[str, float]:
    weights = draw.standard_normal((4096, WIDTH), np.float32)
    x = draw.standard_normal((WIDTH, 1), np.float32)
    seconds = _best(lambda: weights @ x)
    return {
        "seconds": seconds,
        "bytes_per_second": weights.nbytes / seconds,
        "weights_per_second": weights.size / seconds,
    }


def _best(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
