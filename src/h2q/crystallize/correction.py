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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from h2q.crystallize.factor import NARROW, WIDE, solve
from h2q.crystallize.moments import FloatArray, second_moments

MOST_JUDGES = 2048
ROWS_AT_ONCE = 4096


@dataclass
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


@dataclass(frozen=True)
class Corrected:
    """What is left of inputs. weights: W* of every matrix; moments: H', float32 (width, width);
    chosen: tokens by which errors are judged where the input is so wide that its moments would
    take longer, float32 (tokens, width), else None.
    """

    weights: list[FloatArray]
    moments: FloatArray
    chosen: FloatArray | None


def corrected(inputs: Inputs, matrices: Sequence[FloatArray]) -> Corrected:
    """W* of float32 (rows, width) rotated matrices that read these inputs, in their place. Empties
    the inputs and writes over the original's: of a wide matrix they are larger than all else.
    Raises what second_moments raises.
    """
    x, drift, ridge = inputs.crystal, inputs.drift, inputs.ridge
    width, count = x.shape[1], np.float32(len(x))
    with np.errstate(over="ignore", invalid="ignore"):  # the moments will say so
        lacking = np.subtract(inputs.original, x, out=inputs.original)
        inputs.original = inputs.crystal = np.zeros((0, width), np.float32)
        # Whichever order of the products is cheaper: W (d x'^T), or (W d) x'^T.
        alone = width > NARROW and drift is None  # D (H' + ridge)^-1 serves all matrices
        cross = missed = None
        if alone or any(len(weights) > width for weights in matrices):
            cross = lacking.T @ x
            cross /= count
        else:
            missed = [_sum(lacking @ weights.T, drift) for weights in matrices]
        del lacking
        moments = second_moments(x, inputs.reads)
        wanted: list[FloatArray] = []
        if cross is None:
            wanted = [found.T @ x / count for found in missed or []]
        elif not alone:
            added = None if drift is None else drift.T @ x / count
            wanted = [_sum(weights @ cross, added) for weights in matrices]
    del missed
    chosen = None
    if width > WIDE:
        chosen = np.ascontiguousarray(x[:: -(-len(x) // MOST_JUDGES)])
    del x
    if alone and cross is not None:
        gain = np.asarray(solve(moments, ridge, cross.T).T, np.float32)
        for weights in matrices:
            for begin in range(0, len(weights), ROWS_AT_ONCE):
                rows = weights[begin : begin + ROWS_AT_ONCE]
                rows += rows @ gain
        return Corrected(list(matrices), moments, chosen)
    for weights, found in zip(matrices, wanted, strict=True):
        if found.any():
            weights += solve(moments, ridge, found.T).T
    return Corrected(list(matrices), moments, chosen)


def _sum(found: FloatArray, more: FloatArray | None) -> FloatArray:
    return found if more is None else found + more
