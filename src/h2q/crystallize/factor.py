"""Damped second moments, their Cholesky factors, and systems solved by them.

NumPy's own work in double precision whatever they are given, which at thousands of columns takes
twice the time and the memory. Here columns are taken in blocks: what is left of each is a product
of float32 matrices, and only the small blocks on the diagonal go to NumPy. A wide factor takes the
place of its matrix, so that nothing is in memory twice.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.floating]
Real = TypeVar("Real", np.float32, np.float64)

NARROW = 1024  # columns; up to here NumPy's double precision costs nothing that shows
# Beyond, errors are judged by a choice of tokens and one factor is kept at a time: the moments of a
# wide matrix are as large as all else together.
WIDE = 4096
BLOCK = 256  # columns at a time


def strength(moments: Matrix, damping: float) -> float:
    """What a damping is in absolute terms: relative to the mean of the diagonal, which is at least
    tiny, so that silent inputs stay definite.
    """
    return damping * max(float(np.trace(moments)) / len(moments), 1e-12)


def damped(moments: npt.NDArray[Real], damping: float) -> npt.NDArray[Real]:
    """H + damping * mean(diag H) * I."""
    out: npt.NDArray[Real] = moments.copy()
    out[np.diag_indices(len(out))] += moments.dtype.type(strength(moments, damping))
    return out


def cholesky(matrix: Matrix) -> Matrix:
    """Lower L of a positive definite matrix L L^T, (n, n), in its own precision; a wide float32
    matrix is overwritten by it. Raises numpy.linalg.LinAlgError when it is not positive definite.
    """
    if len(matrix) <= NARROW or matrix.dtype != np.float32:
        return np.linalg.cholesky(matrix)
    return blocked_cholesky(matrix, BLOCK)


def blocked_cholesky(matrix: Matrix, block: int) -> Matrix:
    """The same in place, a block of columns at a time."""
    count = len(matrix)
    for begin in range(0, count, block):
        end = min(count, begin + block)
        panel = np.array(matrix[begin:, begin:end])
        if begin:
            panel -= matrix[begin:, :begin] @ matrix[begin:end, :begin].T
        own = np.linalg.cholesky(panel[: end - begin])
        matrix[begin:end, begin:end] = own
        matrix[begin:end, end:] = 0
        if end < count:
            matrix[end:, begin:end] = panel[end - begin :] @ np.linalg.inv(own).T
    return matrix


def solve(moments: Matrix, damping: float, wanted: Matrix) -> Matrix:
    """X of (damped moments) X = wanted, both (n, ...) as in numpy.linalg.solve."""
    matrix = damped(moments, damping)
    if len(matrix) <= NARROW or matrix.dtype != np.float32:
        return np.linalg.solve(matrix, wanted)
    try:
        lower = blocked_cholesky(matrix, BLOCK)
    except np.linalg.LinAlgError:  # by rounding
        return np.linalg.solve(damped(moments, damping), wanted)
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


def turned_factor(moments: Matrix, damping: float) -> Matrix:
    """Lower L of the damped moments with their last rows and columns first. Raises
    numpy.linalg.LinAlgError when they are not positive definite.
    """
    found = damped(moments, damping)
    turn_around(found)
    return cholesky(found)


def solve_turned(lower: Matrix, wanted: Matrix) -> Matrix:
    """X of (damped moments) X = wanted, both (n, m), by their turned factor."""
    return substituted(lower, wanted[::-1], BLOCK)[::-1]


def turn_around(matrix: Matrix) -> None:
    """Last rows first and last columns first, in place."""
    count = len(matrix)
    half = count // 2
    for begin in range(0, half, BLOCK):
        end = min(half, begin + BLOCK)
        upper = matrix[begin:end, ::-1].copy()
        matrix[begin:end] = matrix[count - end : count - begin][::-1, ::-1]
        matrix[count - end : count - begin] = upper[::-1]
    if count % 2:
        matrix[half] = matrix[half, ::-1].copy()
