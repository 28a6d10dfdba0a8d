"""Sums and exponentials in the order of additions that the native forms keep.

Sums run over LANES accumulators, lane j taking elements j, LANES + j, ...; then the lanes are added
as a tree. That order is what a vector unit of any width up to 512 bits can reproduce exactly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

LANES = 16
BLOCK = 1024  # of softmax_top: what is added as float32; sums of blocks are added as float64
ONE = np.float32(1)


def lanes(x: FloatArray) -> FloatArray:
    """The accumulators of a sum over the last axis: float32 (..., n) to (..., LANES)."""
    rest = -x.shape[-1] % LANES
    if rest:
        x = np.concatenate([x, np.zeros((*x.shape[:-1], rest), np.float32)], axis=-1)
    total = np.zeros((*x.shape[:-1], LANES), np.float32)
    for begin in range(0, x.shape[-1], LANES):
        total = total + x[..., begin : begin + LANES]
    return total


def tree(total: FloatArray) -> FloatArray:
    """The lanes added as a tree: float32 (..., LANES) to (...)."""
    half = LANES // 2
    while half:
        total = total[..., :half] + total[..., half:]
        half //= 2
    return np.asarray(total[..., 0], np.float32)


def lane_sum(x: FloatArray) -> FloatArray:
    """Sum over the last axis in lane order: float32 (..., n) to (...)."""
    return tree(lanes(x))


def exp(x: FloatArray) -> FloatArray:
    """exp(x) to about one unit in the last place, x clamped to [-87, 88] (Cephes expf polynomial,
    Moshier).
    """
    f = np.float32
    x = np.maximum(np.minimum(x, f(88)), f(-87))
    n = np.rint(x * f(1.44269504))
    r = (x - n * f(0.693359375)) - n * f(-2.12194440e-4)
    p = np.full_like(r, 1.9875691500e-4)
    for coefficient in (
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ):
        p = p * r + f(coefficient)
    p = ((p * (r * r)) + r) + ONE
    power = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    return np.asarray(p * power, np.float32)
