"""What errors of rows cost: quadratic forms under the moments of what a matrix reads, or by its
answers to inputs that stand for them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from h2q.crystallize.moments import FloatArray, Moments

Costs = npt.NDArray[np.float64]

ROWS_AT_ONCE = 2048
RUN = 128  # products that are added in their own precision


def row_costs(error: FloatArray, moments: Moments | None) -> Costs:
    """e H e^T of every row e, H the identity without moments: float64 (rows,)."""
    return under_moments(error, moments, [error])[0]


def under_moments(
    left: FloatArray, moments: Moments | None, rights: list[FloatArray]
) -> list[Costs]:
    """l_i H r_i^T of every row i for each of `rights`, a few rows at a time."""
    out = [np.empty(len(left), np.float64) for _ in rights]
    for begin in range(0, len(left), ROWS_AT_ONCE):
        rows = slice(begin, begin + ROWS_AT_ONCE)
        turned = left[rows] if moments is None else left[rows].astype(moments.dtype) @ moments
        for sums, right in zip(out, rights, strict=True):
            sums[rows] = _dots(turned, right[rows])
    return out


def by_answers(left: FloatArray, x: FloatArray, rights: list[FloatArray]) -> list[Costs]:
    """The same as the mean of (l_i x)(r_i x) over float32 (tokens, cols) inputs."""
    out = [np.empty(len(left), np.float64) for _ in rights]
    for begin in range(0, len(left), ROWS_AT_ONCE):
        rows = slice(begin, begin + ROWS_AT_ONCE)
        answers = left[rows] @ x.T
        for sums, right in zip(out, rights, strict=True):
            others = answers if right is left else right[rows] @ x.T
            sums[rows] = _dots(answers, others) / len(x)
    return out


def _dots(left: Moments, right: Moments) -> Costs:
    """l_i r_i^T of every row i: float64 sums of sums of RUN products in their own precision."""
    rows, cols = left.shape
    if cols % RUN:
        return np.asarray(np.einsum("ij,ij->i", left, right, dtype=np.float64))
    runs = (rows, cols // RUN, RUN)
    sums = np.einsum("ijk,ijk->ij", left.reshape(runs), right.reshape(runs))
    return np.asarray(sums.sum(axis=1, dtype=np.float64))
