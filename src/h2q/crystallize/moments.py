"""Second moments of what each matrix reads, and the feedback they give to rounding.

The error of a rounded matrix costs tr(E H E^T), H the mean of x x^T over its inputs. LDLQ (Chee et
al. 2023; the same as GPTQ, Frantar et al. 2022) rounds columns in order and lets later columns make
good what earlier ones did wrong: with H = M D M^T, M unit upper triangular, the target of column j
is w_j + sum_{i<j} e_i M_ij.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.core.errors import QualityError
from h2q.engine import Model
from h2q.geometry.rotation import rotation

FloatArray = npt.NDArray[np.float32]
Moments = npt.NDArray[np.float64]
TokenArray = npt.NDArray[np.int64]


class MomentObserver:
    """Collects H per input name, in the rotated basis of a seed; hang it on a model's
    `observer`.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._sums: dict[str, Moments] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, reads: str, x: FloatArray) -> None:
        turned = kernels.rotate(np.ascontiguousarray(x), rotation(self._seed, x.shape[1]))
        product = (turned.T @ turned).astype(np.float64)
        if not np.isfinite(product).all():
            raise QualityError(
                "The original model's activations are not finite.",
                where=reads,
                fix="The checkpoint is damaged, or its numbers overflow float32.",
            )
        self._sums[reads] = self._sums.get(reads, 0.0) + product
        self._counts[reads] = self._counts.get(reads, 0) + len(x)

    def moments(self) -> dict[str, Moments]:
        """Mean of x x^T per input name, float64 (width, width)."""
        return {name: total / self._counts[name] for name, total in self._sums.items()}


def observe(model: Model, batch: TokenArray, observer: MomentObserver) -> None:
    """Run the model over int64 (B, T) tokens with an observer."""
    model.observer = observer
    try:
        model.forward(batch, model.new_cache(len(batch), batch.shape[1]))
    finally:
        model.observer = None


def damped(moments: Moments, damping: float) -> Moments:
    """H + damping * mean(diag H) * I; the mean is at least tiny, so that silent inputs stay
    definite.
    """
    mean = max(float(np.trace(moments)) / len(moments), 1e-12)
    return np.asarray(moments + damping * mean * np.eye(len(moments)))


def feedback(moments: Moments) -> FloatArray:
    """M - I of H = M D M^T, strictly upper, float32 (width, width). H must be positive definite."""
    lower = np.linalg.cholesky(moments[::-1, ::-1])
    unit = (lower / np.diag(lower))[::-1, ::-1]
    return np.triu(unit, 1).astype(np.float32)
