"""How likely a token was under the model's own distribution, before any option touched it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q.core.errors import KernelError
from h2q.engine.sampling.cuts import largest

FloatArray = npt.NDArray[np.float32]
FLOOR = np.float32(-200.0)  # exp of it is 0 in float32; a logit of -inf must not become NaN


@dataclass(frozen=True)
class Likelihood:
    """Natural logarithms. `entropy` is of the whole distribution in nats; `top` are (token,
    log-probability), likeliest first, the lower id first among equals.
    """

    logprob: float
    entropy: float
    top: tuple[tuple[int, float], ...]


def likelihood(logits: FloatArray, token: int, count: int = 0) -> Likelihood:
    """Of `token` and the `count` likeliest tokens: float32 (vocab_size,), read once for the sums.

    With x = logit - max: log Z = log sum exp x, entropy = log Z - sum(x exp x) / Z.
    Raises KernelError when the logits are not numbers.
    """
    peak = peak_of(logits)
    shifted = np.maximum(logits - np.float32(peak), FLOOR)
    weights = np.exp(shifted)
    total = float(weights.sum(dtype=np.float64))
    normalizer = math.log(total)
    entropy = max(0.0, normalizer - float(np.dot(shifted, weights)) / total)
    whole = peak + normalizer
    top: tuple[tuple[int, float], ...] = ()
    if count > 0:
        ids = largest(logits, count)
        order = np.argsort(-logits[ids], kind="stable")[:count]
        top = tuple((int(i), float(logits[i]) - whole) for i in ids[order])
    return Likelihood(float(logits[token]) - whole, entropy, top)


def peak_of(logits: FloatArray) -> float:
    """The largest logit. Raises KernelError when it is NaN or infinite: the model, or what was
    done to it, is broken.
    """
    peak = float(logits.max())
    if not math.isfinite(peak):
        raise KernelError("The logits of the model are not finite numbers.")
    return peak


def log_softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    """Natural log-probabilities over the last axis, float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True)))
