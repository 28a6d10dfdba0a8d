"""Choosing the next token: temperature, top-k, nucleus (Holtzman et al. 2020), seeded."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from h2q.core.errors import UsageError

FloatArray = npt.NDArray[np.float32]
MAX_TEMPERATURE = 100.0


class Sampler:
    """temperature 0 is greedy (lowest id wins a tie); top_k 0 and top_p 1 switch the cuts off; seed
    None draws one.

    Raises UsageError when an option is not a number of the stated range.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> None:
        if not math.isfinite(temperature) or not 0 <= temperature <= MAX_TEMPERATURE:
            raise UsageError(
                f"temperature must be from 0 to {MAX_TEMPERATURE:g}, not {temperature!r}."
            )
        if top_k < 0:
            raise UsageError(f"top_k must be 0 (off) or more, not {top_k!r}.")
        if not math.isfinite(top_p) or not 0 < top_p <= 1:
            raise UsageError(f"top_p must be above 0 and at most 1, not {top_p!r}.")
        if seed is not None and seed < 0:
            raise UsageError(f"seed must be 0 or more, not {seed!r}.")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self._random = np.random.default_rng(seed)

    def choose(self, logits: FloatArray) -> npt.NDArray[np.int64]:
        """One token per row: float32 (B, vocab_size) to int64 (B,)."""
        if self.temperature == 0:
            return np.asarray(np.argmax(logits, axis=-1), np.int64)
        scaled = logits.astype(np.float64) / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            edge = np.partition(scaled, -self.top_k, axis=-1)[:, -self.top_k, None]
            scaled = np.where(scaled < edge, -np.inf, scaled)
        weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        if self.top_p < 1:
            weights = self._nucleus(weights)
        sums = np.cumsum(weights, axis=-1)
        draws = self._random.random((len(logits), 1)) * sums[:, -1:]
        return np.asarray(np.argmax(sums > draws, axis=-1), np.int64)

    def _nucleus(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        order = np.argsort(-weights, axis=-1, kind="stable")
        ranked = np.take_along_axis(weights, order, axis=-1)
        before = np.cumsum(ranked, axis=-1) - ranked
        kept = np.where(before < self.top_p * ranked.sum(axis=-1, keepdims=True), ranked, 0.0)
        out = np.zeros_like(weights)
        np.put_along_axis(out, order, kept, axis=-1)
        return out


def log_softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    """Natural log-probabilities over the last axis, float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True)))
