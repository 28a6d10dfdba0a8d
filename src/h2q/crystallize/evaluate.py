"""How much of the original a crystal keeps: losses, KL divergence, agreement, on the same
tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q.engine import Model

TokenArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
TOKENS_AT_ONCE = 2048


@dataclass(frozen=True)
class Comparison:
    """Losses in nats per token; KL of the crystal from the original; share of tokens with the same
    first choice.
    """

    tokens: int
    loss_original: float
    loss_crystal: float
    kl_mean: float
    top1_agreement: float

    @property
    def quality(self) -> float:
        """exp(loss_original - loss_crystal): one for the original, its share of the per-token
        likelihood kept.
        """
        return math.exp(self.loss_original - self.loss_crystal)

    @property
    def perplexity_original(self) -> float:
        return math.exp(self.loss_original)

    @property
    def perplexity_crystal(self) -> float:
        return math.exp(self.loss_crystal)

    def to_json(self) -> dict[str, float]:
        """All figures, the derived ones included."""
        return {
            "tokens": self.tokens,
            "loss_original": self.loss_original,
            "loss_crystal": self.loss_crystal,
            "perplexity_original": self.perplexity_original,
            "perplexity_crystal": self.perplexity_crystal,
            "kl_mean": self.kl_mean,
            "top1_agreement": self.top1_agreement,
            "quality": self.quality,
        }


def batches(tokens: TokenArray) -> Iterator[TokenArray]:
    """Rows of a token table, a few at a time."""
    rows = max(1, TOKENS_AT_ONCE // tokens.shape[1])
    for begin in range(0, len(tokens), rows):
        yield tokens[begin : begin + rows]


def log_probabilities(model: Model, tokens: TokenArray) -> FloatArray:
    """Of every next token after each but the last: float32 (B * (T - 1), vocab_size)."""
    inputs = np.ascontiguousarray(tokens[:, :-1])
    logits = model.forward(inputs, model.new_cache(len(inputs), inputs.shape[1]))
    flat = logits.reshape(-1, logits.shape[-1])
    flat = flat - flat.max(axis=-1, keepdims=True)
    return np.asarray(flat - np.log(np.exp(flat).sum(axis=-1, keepdims=True)), np.float32)


def mean_divergence(truth: list[tuple[TokenArray, FloatArray]], model: Model) -> float:
    """Mean KL divergence of a model from log-probabilities that were computed before, nats per
    token.
    """
    total, count = 0.0, 0
    for batch, expected in truth:
        guess = log_probabilities(model, batch)
        total += float(np.einsum("ij,ij->", np.exp(expected), expected - guess, dtype=np.float64))
        count += len(expected)
    return total / count


def compare(
    original: Model,
    crystals: list[Model],
    tokens: TokenArray,
    progress: Callable[[float], None] | None = None,
) -> list[Comparison]:
    """Each crystal against the original on int64 (rows, length) tokens, teacher-forced."""
    sums = np.zeros((len(crystals), 4))
    count = 0
    for batch in batches(tokens):
        targets = batch[:, 1:].reshape(-1)
        rows = np.arange(len(targets))
        truth = log_probabilities(original, batch)
        probability, best = np.exp(truth), truth.argmax(axis=-1)
        for index, crystal in enumerate(crystals):
            guess = log_probabilities(crystal, batch)
            sums[index] += (
                -truth[rows, targets].sum(dtype=np.float64),
                -guess[rows, targets].sum(dtype=np.float64),
                np.einsum("ij,ij->", probability, truth - guess, dtype=np.float64),
                np.count_nonzero(guess.argmax(axis=-1) == best),
            )
        count += len(targets)
        if progress is not None:
            progress(count / (tokens.shape[0] * (tokens.shape[1] - 1)))
    return [Comparison(count, *(float(value) / count for value in row)) for row in sums]
