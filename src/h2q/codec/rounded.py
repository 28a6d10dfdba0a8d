"""Weights rounded to seven bits, one scale per row: no code to search for, so that a whole model is
made in seconds, and close enough to the original to speak for it.

Levels lie within +-LEVEL_LIMIT and are kept LEVEL_OFFSET above that, sixteen rows and four columns
to a line, as the planes' products read theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q.codec.constants import COLUMN_GROUP, LEVEL_LIMIT, LEVEL_OFFSET
from h2q.codec.layout import ROWS_PER_STEP
from h2q.codec.planes import Activations

FloatArray = npt.NDArray[np.float32]
ROWS_AT_ONCE = 256
SMALLEST_SCALE = np.float32(1e-30)


@dataclass(frozen=True)
class RoundedMatrix:
    """Weight (i, j) is scales[i] * level(i, j), columns beyond `cols` silent.

    levels: uint8 (blocks of 16 rows, groups of 4 columns, 16, 4). scales: float32 (rows,).
    """

    levels: npt.NDArray[np.uint8]
    scales: FloatArray
    cols: int

    def rows(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        """float32 (len(ids), cols)."""
        lines = self.levels[ids // ROWS_PER_STEP, :, ids % ROWS_PER_STEP]
        levels = lines.reshape(len(ids), -1)[:, : self.cols].astype(np.float32)
        levels -= np.float32(LEVEL_OFFSET)
        levels *= self.scales[ids, None]
        return levels


def rounded(weights: FloatArray) -> RoundedMatrix:
    """float32 (rows, cols), finite."""
    rows, cols = weights.shape
    groups = -(-cols // COLUMN_GROUP)
    shape = (-(-rows // ROWS_PER_STEP), groups, ROWS_PER_STEP, COLUMN_GROUP)
    levels = np.full(shape, LEVEL_OFFSET, np.uint8)
    scales = np.empty(rows, np.float32)
    for begin in range(0, rows, ROWS_AT_ONCE):
        part = weights[begin : begin + ROWS_AT_ONCE]
        loudest = np.maximum(part.max(axis=1), -part.min(axis=1))
        scale = np.maximum(loudest / np.float32(LEVEL_LIMIT), SMALLEST_SCALE)
        scales[begin : begin + len(part)] = scale
        whole = np.full(
            (-(-len(part) // ROWS_PER_STEP) * ROWS_PER_STEP, groups * COLUMN_GROUP),
            LEVEL_OFFSET,
            np.uint8,
        )
        near = part / scale[:, None]
        whole[: len(part), :cols] = np.rint(near, out=near) + np.float32(LEVEL_OFFSET)
        lines = whole.view(np.uint32).reshape(-1, ROWS_PER_STEP, groups)
        first = begin // ROWS_PER_STEP
        levels[first : first + len(lines)].view(np.uint32)[..., 0] = lines.transpose(0, 2, 1)
    return RoundedMatrix(levels, scales, cols)


def matmul_rounded(activations: Activations, matrix: RoundedMatrix) -> FloatArray:
    """A rounded matrix times rounded inputs, exact sums scaled: float32 (T, rows)."""
    flat = matrix.levels.transpose(0, 2, 1, 3).reshape(len(matrix.levels) * ROWS_PER_STEP, -1)
    levels = flat[: len(matrix.scales)].astype(np.int32) - LEVEL_OFFSET
    sums = activations.codes[:, : levels.shape[1]].astype(np.int32) @ levels.T
    out = sums.astype(np.float32) * matrix.scales
    return np.asarray(out * activations.scale[:, None], np.float32)
