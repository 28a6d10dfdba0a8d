"""What trellis planes are held against: two-bit scalar rounding, with and without error feedback.

The levels are those of Lloyd and Max for a unit Gaussian (Max 1960), one scale per row from its
power, re-fitted after rounding under the same moments as ours; the feedback is the same LDLQ
(GPTQ), exact from column to column.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

LLOYD_MAX: Final = np.array([-1.5104, -0.4528, 0.4528, 1.5104], np.float32)
_BORDERS: Final = (LLOYD_MAX[1:] + LLOYD_MAX[:-1]) / 2
BLOCK = 64


def rounded(weights: FloatArray, feedback: FloatArray | None, moments: FloatArray) -> FloatArray:
    """Weights at two bits, dequantized: float32 (rows, cols).

    feedback: float32 (cols, cols), strictly upper (see moments.feedback), or None for rounding to
    nearest. moments: (cols, cols), under which row scales are re-fitted.
    """
    scale = np.sqrt(np.mean(weights**2, axis=1, keepdims=True))
    target = weights / scale
    levels = _nearest(target) if feedback is None else _fed_back(target, feedback)
    turned = levels @ moments
    above = np.einsum("ij,ij->i", turned, weights, dtype=np.float64)
    below = np.einsum("ij,ij->i", turned, levels, dtype=np.float64)
    return np.asarray((above / below).astype(np.float32)[:, None] * levels)


def _nearest(target: FloatArray) -> FloatArray:
    return np.asarray(LLOYD_MAX[np.searchsorted(_BORDERS, target)])


def _fed_back(target: FloatArray, feedback: FloatArray) -> FloatArray:
    """Columns in order; the errors of a block reach the columns behind it in one product."""
    levels, errors, pending = (np.zeros_like(target) for _ in range(3))
    width = target.shape[1]
    for begin in range(0, width, BLOCK):
        end = min(width, begin + BLOCK)
        for j in range(begin, end):
            inside = errors[:, begin:j] @ feedback[begin:j, j]
            levels[:, j] = _nearest(target[:, j] + pending[:, j] + inside)
            errors[:, j] = target[:, j] - levels[:, j]
        pending[:, end:] += errors[:, begin:end] @ feedback[begin:end, end:]
    return levels
