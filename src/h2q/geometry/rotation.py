"""Orthogonal rotations that make weights look Gaussian and leave the network's function as it is.

y = W x = (W R^T)(R x). R is a diagonal of random signs, then a Walsh-Hadamard transform of blocks
of the largest power of two that divides the width, then, where the odd factor is small, an
orthonormal discrete cosine transform across the blocks. Signs come from a counter-based generator
(splitmix64) and a seed; they are never stored. The order of every addition is fixed, so that the
native form gives the same bits.

Incoherence by randomised Hadamard transforms: Chee et al. 2023 (QuIP), Tseng et al. 2024 (QuIP#).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

MAX_ODD_FACTOR = 64
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rotation:
    """R of one width. signs: float32 (width,), +-1. mix: float32 (m, m), m the odd factor, or (1,
    1) when not mixed.
    """

    signs: FloatArray
    mix: FloatArray
    block: int

    @property
    def width(self) -> int:
        return len(self.signs)


def splitmix64(start: int, count: int) -> npt.NDArray[np.uint64]:
    """`count` outputs of splitmix64 (Steele et al. 2014) whose state begins at `start`."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    z = np.uint64(start & _MASK) + steps
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), np.uint64)


@lru_cache(maxsize=64)
def rotation(seed: int, width: int) -> Rotation:
    """The rotation of one width: sign i is -1 where the top bit of output i of splitmix64(seed *
    2^32 + width) is set.
    """
    bits = splitmix64((seed << 32) + width, width) >> np.uint64(63)
    signs = (1.0 - 2.0 * bits.astype(np.float64)).astype(np.float32)
    block = width & -width
    odd = width // block
    mix = _cosines(odd) if 1 < odd <= MAX_ODD_FACTOR else np.ones((1, 1), np.float32)
    return Rotation(signs, mix, block)


def _cosines(size: int) -> FloatArray:
    """The orthonormal DCT-II matrix, float32 (size, size); computed in float64, rounded once."""
    row = np.arange(size)[:, None]
    matrix = np.cos(np.pi * row * (2 * np.arange(size) + 1) / (2 * size)) * np.sqrt(2 / size)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix, np.float32)


def rotate(x: FloatArray, rotation: Rotation) -> FloatArray:
    """R x for every token: float32 (T, width) to float32 (T, width)."""
    return _mixed(_hadamard(x * rotation.signs, rotation.block), rotation.mix, rotation)


def unrotate(x: FloatArray, rotation: Rotation) -> FloatArray:
    """R^T x for every token: float32 (T, width) to float32 (T, width)."""
    return _hadamard(_mixed(x, rotation.mix.T, rotation), rotation.block) * rotation.signs


def _hadamard(x: FloatArray, block: int) -> FloatArray:
    y = np.array(x, np.float32)
    half = 1
    while half < block:
        pairs = y.reshape(-1, 2, half)
        y = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1)
        half *= 2
    return np.asarray(y.reshape(x.shape) * np.float32(1 / np.sqrt(block)), np.float32)


def _mixed(x: FloatArray, mix: FloatArray, rotation: Rotation) -> FloatArray:
    if len(mix) == 1:
        return x
    blocks = x.reshape(len(x), len(mix), rotation.block)
    total = mix[:, 0, None] * blocks[:, None, 0]
    for j in range(1, len(mix)):
        total = total + mix[:, j, None] * blocks[:, None, j]
    return np.asarray(total.reshape(x.shape), np.float32)
