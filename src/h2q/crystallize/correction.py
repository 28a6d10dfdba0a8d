"""What a matrix should be, now that its inputs are no longer the original's.

Layers before it are rounded, so a matrix reads x' where the original reads x, and its output is
added to a stream that is already off by r = (original stream) - (crystal's stream). The matrix W*
that answers best in the least squares sense, sum |W x + r - W* x'|^2 + ridge |W* - W|^2, is

    W* = W + (W D + R) (H' + ridge)^-1
    D = mean (x - x') x'^T,  R = mean r x'^T,  H' = mean x' x'^T

W* is then rounded under H'. Related: GPTAQ (Li et al. 2025), Qronos (Zhang et al. 2025); both
correct columns while they round, here it is one solve before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from h2q.crystallize.factor import NARROW, solve
from h2q.crystallize.moments import FloatArray, damped, second_moments

WIDE = 4096  # columns; errors of wider matrices are judged by a choice of tokens
MOST_JUDGES = 2048


@dataclass(frozen=True)
class Inputs:
    """What matrices of one input read, in the rotated basis: float32 (T, width) of the original
    and of the crystal; `drift`: float32 (T, rows) what the stream they add to lacks, or None where
    they add to none. `ridge` is relative to the mean of the moments' diagonal.
    """

    reads: str
    original: FloatArray
    crystal: FloatArray
    drift: FloatArray | None
    ridge: float

    @cached_property
    def moments(self) -> FloatArray:
        """H', float32 (width, width)."""
        return second_moments(self.crystal, self.reads)

    @cached_property
    def chosen(self) -> FloatArray | None:
        """Tokens by which a matrix's errors are judged where it is so wide that its moments would
        take longer: float32 (tokens, width), else None.
        """
        if self.crystal.shape[1] <= WIDE:
            return None
        return np.ascontiguousarray(self.crystal[:: -(-len(self.crystal) // MOST_JUDGES)])

    @cached_property
    def _difference(self) -> FloatArray:
        return self.original - self.crystal

    @cached_property
    def _cross(self) -> FloatArray:
        crossed: FloatArray = self._difference.T @ self.crystal
        crossed /= np.float32(len(self.crystal))
        return crossed

    @cached_property
    def _gain(self) -> FloatArray:
        """D (H' + ridge)^-1, the same for all matrices that read this input."""
        gain = solve(damped(self.moments, self.ridge), self._cross.T).T
        return np.asarray(gain, np.float32)

    def corrected(self, weights: FloatArray) -> FloatArray:
        """W* of float32 (rows, width) rotated weights."""
        rows, width = weights.shape
        if width > NARROW and self.drift is None:
            return np.ascontiguousarray(weights + weights @ self._gain, np.float32)
        count = np.float32(len(self.crystal))
        # Whichever order of the products is cheaper: W (d x'^T), or (W d) x'^T.
        if rows > width:
            wanted = weights @ self._cross
            if self.drift is not None:
                wanted += self.drift.T @ self.crystal / count
        else:
            wanted = self._missed(weights).T @ self.crystal / count
        if not wanted.any():
            return weights
        step = solve(damped(self.moments, self.ridge), wanted.T)
        return np.ascontiguousarray(weights + step.T, np.float32)

    def _missed(self, weights: FloatArray) -> FloatArray:
        """What the outputs lack, float32 (T, rows of the matrix)."""
        missed: FloatArray = (self.original - self.crystal) @ weights.T
        return missed if self.drift is None else missed + self.drift
