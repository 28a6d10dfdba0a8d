"""Cholesky factors of wide float32 matrices, and systems solved by them.

NumPy's own work in double precision whatever they are given, which at thousands of columns takes
twice the time and the memory. Here columns are taken in blocks: what is left of each is a product
of float32 matrices, and only the small blocks on the diagonal go to NumPy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.floating]

NARROW = 1024  # columns; up to here NumPy's double precision costs nothing that shows
BLOCK = 256  # columns at a time


def cholesky(matrix: Matrix, block: int = BLOCK) -> Matrix:
    """Lower L of a positive definite matrix L L^T, (n, n), in its own precision. Raises
    numpy.linalg.LinAlgError when it is not positive definite.
    """
    if len(matrix) <= NARROW or matrix.dtype != np.float32:
        return np.linalg.cholesky(matrix)
    return blocked_cholesky(matrix, block)


def blocked_cholesky(matrix: Matrix, block: int) -> Matrix:
    """The same, a block of columns at a time."""
    count = len(matrix)
    lower = np.zeros_like(matrix, order="C")
    for begin in range(0, count, block):
        end = min(count, begin + block)
        panel = np.array(matrix[begin:, begin:end])
        if begin:
            panel -= lower[begin:, :begin] @ lower[begin:end, :begin].T
        own = np.linalg.cholesky(panel[: end - begin])
        lower[begin:end, begin:end] = own
        if end < count:
            lower[end:, begin:end] = panel[end - begin :] @ np.linalg.inv(own).T
    return lower


def solve(matrix: Matrix, wanted: Matrix) -> Matrix:
    """X of matrix X = wanted, both (n, ...) as in numpy.linalg.solve; the matrix is symmetric and,
    up to rounding, positive definite.
    """
    if len(matrix) <= NARROW or matrix.dtype != np.float32:
        return np.linalg.solve(matrix, wanted)
    try:
        lower = blocked_cholesky(matrix, BLOCK)
    except np.linalg.LinAlgError:
        return np.linalg.solve(matrix, wanted)
    return substituted(lower, wanted, BLOCK)


def substituted(lower: Matrix, wanted: Matrix, block: int) -> Matrix:
    """X of lower lower^T X = wanted, float (n, m)."""
    out = np.array(wanted, lower.dtype, order="C")
    places = [slice(b, min(len(lower), b + block)) for b in range(0, len(lower), block)]
    inverses = [np.linalg.inv(lower[at, at]) for at in places]
    for at, inverse in zip(places, inverses, strict=True):
        out[at] = inverse @ (out[at] - lower[at, : at.start] @ out[: at.start])
    for at, inverse in zip(places[::-1], inverses[::-1], strict=True):
        out[at] = inverse.T @ (out[at] - lower[at.stop :, at].T @ out[at.stop :])
    return out
