"""How likely a token was under the model's own distribution, before any option touched it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q import kernels

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Likelihood:
    """Natural logarithms. `entropy` is of the whole distribution in nats; `top` are (token,
    log-probability), likeliest first, the lower id first among equals.
    """

    logprob: float
    entropy: float
    top: tuple[tuple[int, float], ...]


class Distribution:
    """What logits float32 (vocab_size,) say, read once; `best` of them are the likeliest, at least
    one. Raises KernelError when the logits are not numbers: the model, or what was done to it, is
    broken.
    """

    __slots__ = ("_entropy", "_whole", "best", "logits")

    def __init__(self, logits: FloatArray, best: int = 1) -> None:
        count = max(1, min(best, len(logits)))
        peak, norm, product, ids = kernels.softmax_top(logits[None], count)
        total = float(norm[0])
        normalizer = math.log(total)
        self.logits = logits
        self.best: list[int] = ids[0].tolist()
        self._whole = float(peak[0]) + normalizer
        self._entropy = max(0.0, normalizer - float(product[0]) / total)

    def of(self, token: int, count: int = 0) -> Likelihood:
        """Of `token`, and the `count` likeliest tokens, so many of which were asked for."""
        logits, whole = self.logits, self._whole
        top = tuple((one, float(logits[one]) - whole) for one in self.best[:count])
        return Likelihood(float(logits[token]) - whole, self._entropy, top)


def log_softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    """Natural log-probabilities over the last axis, float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True)))
