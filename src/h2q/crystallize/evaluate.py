"""How much of the original a crystal keeps: losses, KL divergence, agreement, on the same
tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from h2q.crystallize.remembered import Network

TokenArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
MOST_NATS = 700.0  # whose power of e is still a number
TOKENS_AT_ONCE, LOGITS_AT_ONCE = 2048, 16 << 20  # at most, one text at least


@dataclass(frozen=True)
class Comparison:
    """Losses in nats per token; KL of the crystal from the original, mean, 99th percentile and
    largest over the tokens; share of tokens with the same first choice; standard deviation over the
    tokens of the difference of losses.
    """

    tokens: int
    loss_original: float
    loss_crystal: float
    kl_mean: float
    kl_p99: float
    kl_max: float
    top1_agreement: float
    loss_spread: float

    @property
    def quality(self) -> float:
        """exp(loss_original - loss_crystal): one for the original, its share of the per-token
        likelihood kept.
        """
        return math.exp(min(self.loss_original - self.loss_crystal, MOST_NATS))

    @property
    def quality_error(self) -> float:
        """Standard error of the quality, as if tokens were independent: another text of so many
        tokens gives one within twice that, nineteen times in twenty.
        """
        return self.quality * self.loss_spread / math.sqrt(self.tokens)

    @property
    def perplexity_original(self) -> float:
        return math.exp(min(self.loss_original, MOST_NATS))

    @property
    def perplexity_crystal(self) -> float:
        return math.exp(min(self.loss_crystal, MOST_NATS))

    def to_json(self) -> dict[str, float]:
        """All figures, the derived ones included."""
        return {
            "tokens": self.tokens,
            "loss_original": self.loss_original,
            "loss_crystal": self.loss_crystal,
            "perplexity_original": self.perplexity_original,
            "perplexity_crystal": self.perplexity_crystal,
            "kl_mean": self.kl_mean,
            "kl_p99": self.kl_p99,
            "kl_max": self.kl_max,
            "top1_agreement": self.top1_agreement,
            "quality": self.quality,
            "quality_error": self.quality_error,
        }


@dataclass
class _Tally:
    """Sums over tokens of one crystal, and the divergence of each token, float32."""

    loss_original: float = 0.0
    loss_crystal: float = 0.0
    squares: float = 0.0  # of what a token's loss grew by
    divergence: float = 0.0
    agreed: int = 0
    divergences: list[FloatArray] = field(default_factory=list)

    def comparison(self, count: int) -> Comparison:
        every = np.concatenate(self.divergences)
        grown = (self.loss_crystal - self.loss_original) / count
        return Comparison(
            tokens=count,
            loss_original=self.loss_original / count,
            loss_crystal=self.loss_crystal / count,
            kl_mean=self.divergence / count,
            kl_p99=float(np.percentile(every, 99)),
            kl_max=float(every.max()),
            top1_agreement=self.agreed / count,
            loss_spread=math.sqrt(max(0.0, self.squares / count - grown**2)),
        )


def batches(tokens: TokenArray, vocabulary: int) -> Iterator[TokenArray]:
    """Rows of a token table, a few at a time."""
    rows = max(1, min(TOKENS_AT_ONCE, LOGITS_AT_ONCE // vocabulary) // tokens.shape[1])
    for begin in range(0, len(tokens), rows):
        yield tokens[begin : begin + rows]


def log_probabilities(model: Network, tokens: TokenArray) -> FloatArray:
    """Of every next token after each but the last: float32 (B * (T - 1), vocab_size)."""
    inputs = np.ascontiguousarray(tokens[:, :-1])
    logits = model.forward(inputs, model.new_cache(len(inputs), inputs.shape[1]))
    flat = logits.reshape(-1, logits.shape[-1])
    flat = flat - flat.max(axis=-1, keepdims=True)
    del logits  # large
    flat -= np.log(np.exp(flat).sum(axis=-1, keepdims=True))
    return np.asarray(flat, np.float32)


def compare(
    original: Network,
    crystals: Sequence[Network],
    tokens: TokenArray,
    progress: Callable[[float], None] | None = None,
) -> list[Comparison]:
    """Each crystal against the original on int64 (rows, length) tokens, teacher-forced.

    The divergence of every token is kept, float32, so that percentiles are exact.
    """
    tallies = [_Tally() for _ in crystals]
    count = 0
    for batch in batches(tokens, original.spec.vocab_size):
        targets = batch[:, 1:].reshape(-1)
        rows = np.arange(len(targets))
        truth = log_probabilities(original, batch)
        probability, best = np.exp(truth), truth.argmax(axis=-1)
        for tally, crystal in zip(tallies, crystals, strict=True):
            guess = log_probabilities(crystal, batch)
            before, after = (table[rows, targets].astype(np.float64) for table in (truth, guess))
            tally.loss_original -= float(before.sum())
            tally.loss_crystal -= float(after.sum())
            tally.squares += float(np.square(before - after).sum())
            each = np.einsum("ij,ij->i", probability, truth - guess, dtype=np.float64)
            tally.divergence += float(each.sum())
            tally.agreed += int(np.count_nonzero(guess.argmax(axis=-1) == best))
            tally.divergences.append(each.astype(np.float32))
        count += len(targets)
        if progress is not None:
            progress(count / (tokens.shape[0] * (tokens.shape[1] - 1)))
    return [tally.comparison(count) for tally in tallies]
