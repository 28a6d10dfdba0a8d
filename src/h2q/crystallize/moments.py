"""Second moments of what each matrix reads, and the feedback they give to rounding.

The error of a rounded matrix costs tr(E H E^T), H the mean of x x^T over its inputs. LDLQ (Chee et
al. 2023; the same as GPTQ, Frantar et al. 2022) rounds columns in order and lets later columns make
good what earlier ones did wrong: with H = M D M^T, M unit upper triangular, the target of column j
is w_j + sum_{i<j} e_i M_ij.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from h2q.core.errors import QualityError
from h2q.crystallize.factor import turn_around, turned_factor

FloatArray = npt.NDArray[np.float32]
Moments = npt.NDArray[np.floating]
TokenArray = npt.NDArray[np.int64]


NOT_FINITE = "The original model's activations are not finite."
OVERFLOWS = "The checkpoint is damaged, or its numbers overflow float32."


def second_moments(x: FloatArray, reads: str) -> FloatArray:
    """Mean of x x^T over float32 (T, width) inputs: float32 (width, width). Raises QualityError,
    with the input's name, when it is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        moments: FloatArray = x.T @ x
    moments /= np.float32(len(x))
    if not np.isfinite(moments).all():
        raise QualityError(NOT_FINITE, where=reads, fix=OVERFLOWS)
    return moments


def with_prior(own: FloatArray, count: int, shared: FloatArray, strength: float) -> FloatArray:
    """Moments of an expert that saw `count` tokens, the moments of all tokens standing in for
    `strength` more: (count * own + strength * shared) / (count + strength).
    """
    if count + strength <= 0:
        return shared
    share = np.float32(count / (count + strength))
    return np.asarray(share * own + (1 - share) * shared, np.float32)


def feedback(moments: Moments, damping: float = 0.0) -> FloatArray:
    """M - I of H = M D M^T, H the damped moments, strictly upper, float32 (width, width). H must be
    positive definite; computed in its own precision.
    """
    return feedback_of(turned_factor(moments, damping))


def feedback_of(lower: Moments) -> FloatArray:
    """The same from the turned factor of the damped moments, which is written over."""
    lower /= np.diag(lower).copy()
    turn_around(lower)
    lower[np.diag_indices(len(lower))] = 0
    return lower.astype(np.float32, copy=False)


def shaping_gain(x: FloatArray, damping: float, most: int = 512) -> float:
    """What feedback under these inputs is expected to leave of the loss of plain rounding: the
    geometric over the arithmetic mean of the eigenvalues of the damped moments, from at most
    `most` of the float32 (T, width) inputs. 1 for white inputs.
    """
    rows = x[np.linspace(0, len(x) - 1, min(most, len(x))).astype(np.int64)].astype(np.float64)
    values = np.linalg.eigvalsh(rows @ rows.T if len(rows) < x.shape[1] else rows.T @ rows)
    width = x.shape[1]
    padded = np.zeros(width)
    padded[: len(values)] = np.maximum(values, 0)
    mean = max(float(padded.mean()), 1e-30)
    return float(np.exp(np.mean(np.log(padded / mean + damping))) / (1 + damping))
