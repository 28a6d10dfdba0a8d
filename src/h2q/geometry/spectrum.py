"""Spectra of a matrix and of its approximation: singular values, incoherence, spectral shift,
growth.

With A = W^T W, B = V^T V and N(lambda) the number of eigenvalues up to lambda, the spectral shift
function (Lifshits 1952, Krein 1953) is xi(lambda) = N_A(lambda) - N_B(lambda), and for smooth f

    tr(f(B) - f(A)) = integral of f'(lambda) xi(lambda).

It says at which strengths an approximation moves the spectrum, and how far: the integral of |xi| is
the sum of |lambda_i(A) - lambda_i(B)| over sorted eigenvalues.

Eigenvalues are those of the Gram matrix of the shorter side, in float64; what the longer side adds
is zero in both and cancels. Beyond MOST_SHORT x MOST_LONG a seeded choice of rows and columns
stands for the whole (see `sketch`), which bounds the cost of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q.core.errors import KernelError

FloatArray = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

MOST_SHORT, MOST_LONG = 512, 4096
CURVE_POINTS = 32
QUADRATURE_NODES = 8  # per step of xi: exact for derivatives that are polynomials up to degree 15


def gram_eigenvalues(matrix: npt.NDArray[np.floating]) -> Values:
    """Eigenvalues of the Gram matrix of the shorter side: float64 (min(rows, cols),), rising, none
    negative. `matrix` is (rows, cols). Raises KernelError when it is empty or not finite.
    """
    wide = np.asarray(matrix, np.float64)
    if wide.ndim != 2 or wide.size == 0:
        raise KernelError(f"A spectrum is that of a matrix, not of shape {wide.shape}.")
    if not np.isfinite(wide).all():
        raise KernelError("A spectrum needs a finite matrix.")
    gram = wide @ wide.T if wide.shape[0] <= wide.shape[1] else wide.T @ wide
    return np.asarray(np.maximum(np.linalg.eigvalsh(gram), 0.0))


def singular_values(matrix: npt.NDArray[np.floating]) -> Values:
    """Singular values, float64 (min(rows, cols),), falling. Below about 1e-8 of the largest they
    drown in the rounding of the Gram matrix. Raises KernelError.
    """
    return np.asarray(np.sqrt(gram_eigenvalues(matrix))[::-1])


def incoherence(matrix: npt.NDArray[np.floating]) -> float:
    """max|W| sqrt(rows cols) / |W|_F: 1 for a matrix of equal magnitudes, at most sqrt(rows cols)
    (Chee et al. 2023, QuIP). 0 for a matrix of zeros.
    """
    norm = float(np.sqrt(np.einsum("ij,ij->", matrix, matrix, dtype=np.float64)))
    return float(np.abs(matrix).max()) * float(np.sqrt(matrix.size)) / norm if norm else 0.0


@dataclass(frozen=True)
class Weyl:
    """The largest move of a singular value, and what bounds it: the spectral norm of the
    difference.
    """

    shift: float
    bound: float

    @property
    def holds(self) -> bool:
        """Weyl's inequality, up to the rounding of the Gram matrix."""
        return self.shift <= self.bound * (1 + 1e-6) + 1e-12


def weyl(before: npt.NDArray[np.floating], after: npt.NDArray[np.floating]) -> Weyl:
    """|s_i(W) - s_i(V)| <= |W - V|_2 (Weyl 1912), both sides computed. Raises KernelError."""
    _require_alike(before, after)
    one, two = (np.asarray(matrix, np.float64) for matrix in (before, after))
    shift = np.abs(singular_values(one) - singular_values(two)).max()
    return Weyl(float(shift), float(singular_values(one - two)[0]))


@dataclass(frozen=True)
class SpectralShift:
    """xi of two spectra. before, after: eigenvalues of A and B, float64 (n,), rising."""

    before: Values
    after: Values

    def __call__(self, at: npt.NDArray[np.floating] | float) -> npt.NDArray[np.int64]:
        """xi at these lambdas, int64, their shape."""
        counted = [np.searchsorted(v, at, side="right") for v in (self.before, self.after)]
        return np.asarray(counted[0] - counted[1], np.int64)

    def steps(self) -> tuple[Values, npt.NDArray[np.int64]]:
        """Where xi may jump, float64 (2n,), rising, and its value from each to the next, int64
        (2n - 1,). Outside xi is zero.
        """
        borders = np.sort(np.concatenate([self.before, self.after]))
        return borders, self(borders[:-1])

    def integral(self, derivative: Callable[[Values], Values]) -> float:
        """Integral of f' xi: what tr(f(B) - f(A)) is by the trace formula. Gauss-Legendre on every
        step, exact for polynomials up to degree 15.
        """
        borders, heights = self.steps()
        nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE_NODES)
        half = np.diff(borders)[:, None] / 2
        at = borders[:-1, None] + half * (nodes + 1)
        return float((heights[:, None] * half * weights * derivative(at)).sum())

    @property
    def total(self) -> float:
        """Integral of |xi|, exactly."""
        borders, heights = self.steps()
        return float(np.abs(heights) @ np.diff(borders))

    @property
    def largest(self) -> int:
        """The largest |xi|."""
        borders, heights = self.steps()
        return int(np.abs(heights[np.diff(borders) > 0]).max(initial=0))

    @property
    def singular_shift(self) -> float:
        """Sum of |s_i - s_i'| over the sum of s_i; 0 where both spectra are zero."""
        one, two = np.sqrt(self.before), np.sqrt(self.after)
        whole = float(one.sum()) or float(two.sum())
        return float(np.abs(one - two).sum()) / whole if whole else 0.0

    def curve(self, points: int = CURVE_POINTS) -> tuple[float, list[int]]:
        """The largest singular value s of both, and xi at the squares of (k + 1/2) s / points, k
        from 0: an even grid of singular values.
        """
        highest = float(np.sqrt(max(self.before[-1], self.after[-1])))
        grid = (np.arange(points) + 0.5) * highest / points
        return highest, [int(value) for value in self(grid**2)]


def spectral_shift(
    before: npt.NDArray[np.floating], after: npt.NDArray[np.floating]
) -> SpectralShift:
    """xi of A = W^T W and B = V^T V, W and V (rows, cols). Raises KernelError."""
    _require_alike(before, after)
    return SpectralShift(gram_eigenvalues(before), gram_eigenvalues(after))


@dataclass(frozen=True)
class Sketch:
    """Which rows and columns stand for a matrix: int64 indices, rising."""

    rows: npt.NDArray[np.int64]
    cols: npt.NDArray[np.int64]
    shape: tuple[int, int]

    @property
    def whole(self) -> bool:
        return (len(self.rows), len(self.cols)) == self.shape

    def of(self, matrix: FloatArray) -> FloatArray:
        """The chosen part. What is left out of the longer side is made good by a factor, so that
        the Gram matrix of the shorter side keeps its expectation.
        """
        return self.of_rows(matrix[self.rows] if len(self.rows) < self.shape[0] else matrix)

    def of_rows(self, part: FloatArray) -> FloatArray:
        """The same of the chosen rows alone."""
        if self.whole:
            return part
        rows, cols = self.shape
        longer = len(self.rows) / rows if rows > cols else len(self.cols) / cols
        part = part[:, self.cols] if len(self.cols) < cols else part
        return np.asarray(part / np.float32(np.sqrt(longer)), np.float32)


def sketch(
    shape: tuple[int, int], seed: int, short: int = MOST_SHORT, long: int = MOST_LONG
) -> Sketch:
    """A seeded choice of at most `short` indices of the shorter side and `long` of the longer.

    The spectrum is then that of a principal part of the Gram matrix, estimated from some of the
    terms of its sum: other eigenvalues than the whole's, between its smallest and largest but for
    the estimate. Original and crystal are cut alike, so their difference stays meaningful, and the
    trace formula holds for the parts as it does for the whole.
    """
    rng = np.random.default_rng([seed, *shape])
    limits = (short, long) if shape[0] <= shape[1] else (long, short)
    chosen = [
        np.sort(rng.choice(size, limit, replace=False)) if size > limit else np.arange(size)
        for size, limit in zip(shape, limits, strict=True)
    ]
    return Sketch(chosen[0], chosen[1], shape)


def growth_exponent(before: float, after: float, floor: float = 0.0) -> float:
    """log(after / before) of two norms of an error: its finite-time growth exponent over one step,
    nats. For a linear map it is the log of the gain in the error's direction, at most log s_1.
    Norms below `floor` count as `floor`: rounding noise does not grow.
    """
    before, after = max(before, floor), max(after, floor)
    if before == after:
        return 0.0
    with np.errstate(divide="ignore"):
        return float(np.log(after) - np.log(before))


def _require_alike(before: npt.NDArray[np.floating], after: npt.NDArray[np.floating]) -> None:
    if before.shape != after.shape:
        raise KernelError(f"Spectra of {before.shape} and {after.shape} cannot be compared.")
