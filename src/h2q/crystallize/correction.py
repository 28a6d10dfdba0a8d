"""What a matrix should be, now that its inputs are no longer the original's.

Layers before it are rounded, so a matrix reads x' where the original reads x. What it should answer
is y = W x; where its answer is added to a stream that is already off by r = (original stream) -
(crystal's stream), y = W x + r. The matrix W* that does best in the least squares sense,
sum |y - W* x'|^2 + ridge |W* - W|^2, is

    W* = (mean y x'^T + ridge W) (H' + ridge)^-1,  H' = mean x' x'^T
       = W + W D (H' + ridge)^-1,  D = mean (x - x') x'^T, where r = 0

The ridge is no less than FEW times the columns for each token: a few tokens say little of what the
next ones bring. W* is then rounded under H'.

Related: GPTAQ (Li et al. 2025), Qronos (Zhang et al. 2025); both correct columns while they round,
here it is one solve before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from h2q.crystallize.factor import WIDE, solve, solve_turned, strength, turned_factor
from h2q.crystallize.moments import FloatArray, feedback_of, second_moments

MOST_JUDGES = 2048
ROWS_AT_ONCE = 4096
FEW = 0.6


@dataclass
class Inputs:
    """What matrices of one input read, in the rotated basis: float32 (T, width) of the crystal, and
    either of the `original` or, where one matrix reads it, what that should answer: `wanted`,
    float32 (T, rows). Relative to the mean of the moments' diagonal are the least `ridge`, and the
    `damping` under which the base plane will be shaped.
    """

    reads: str
    crystal: FloatArray
    ridge: float
    damping: float
    original: FloatArray | None = None
    wanted: FloatArray | None = None


@dataclass(frozen=True)
class Corrected:
    """What is left of inputs. weights: W* of every matrix; moments: H', float32 (width, width);
    chosen: tokens by which errors are judged where the input is so wide that its moments would
    take longer, float32 (tokens, width), else None. shapes: the feedback of these moments, where it
    came by the way, by damping.
    """

    weights: list[FloatArray]
    moments: FloatArray
    chosen: FloatArray | None
    shapes: dict[float, FloatArray]


def corrected(inputs: Inputs, matrices: Sequence[FloatArray]) -> Corrected:
    """W* of float32 (rows, width) rotated matrices that read these inputs, in their place; of one
    only where `wanted` is given. Empties the inputs and writes over the original's: of a wide
    matrix they are larger than all else. Raises what second_moments raises.
    """
    x, original, wanted = inputs.crystal, inputs.original, inputs.wanted
    inputs.crystal = np.zeros((0, x.shape[1]), np.float32)
    inputs.original = inputs.wanted = None
    with np.errstate(over="ignore", invalid="ignore"):  # the moments will say so
        moved = None
        if original is not None:
            lacking = np.subtract(original, x, out=original)
            moved = lacking.T @ x
            moved /= np.float32(len(x))
            del lacking, original
        moments = second_moments(x, inputs.reads)
    chosen = None
    if x.shape[1] > WIDE:
        chosen = np.ascontiguousarray(x[:: -(-len(x) // MOST_JUDGES)])
    ridge, shapes = _ridge(inputs, x), dict[float, FloatArray]()
    if wanted is not None:
        (weights,) = matrices
        heard = wanted.T @ x
        heard /= np.float32(len(x))
        del x, wanted
        weights *= np.float32(strength(moments, ridge))
        weights += heard
        del heard
        weights[:] = _solved(moments, ridge, weights, inputs.damping, shapes)
    elif moved is not None and moved.any():
        gain = _solved(moments, ridge, moved, inputs.damping, shapes)
        for weights in matrices:
            for begin in range(0, len(weights), ROWS_AT_ONCE):
                rows = weights[begin : begin + ROWS_AT_ONCE]
                rows += rows @ gain
    return Corrected(list(matrices), moments, chosen, shapes)


def _ridge(inputs: Inputs, x: FloatArray) -> float:
    """What is used. Of a wide input the damping, where that is not much more: then one factor
    serves for both.
    """
    least = max(inputs.ridge, FEW * x.shape[1] / len(x))
    shared = x.shape[1] > WIDE and inputs.damping / 2 <= least <= inputs.damping
    return inputs.damping if shared else least


def _solved(
    moments: FloatArray,
    ridge: float,
    right: FloatArray,
    damping: float,
    shapes: dict[float, FloatArray],
) -> FloatArray:
    """right (moments + ridge)^-1. Of wide moments whose ridge is the damping, `shapes` gets the
    feedback that the same factor makes.
    """
    if len(moments) > WIDE and ridge == damping:
        with suppress(np.linalg.LinAlgError):  # by rounding
            lower = turned_factor(moments, ridge)
            found = solve_turned(lower, right.T).T
            shapes[damping] = feedback_of(lower)
            return np.asarray(found, np.float32)
    return np.asarray(solve(moments, ridge, right.T).T, np.float32)
