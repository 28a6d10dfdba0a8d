"""The sampler of one stream: its options, what it has seen, and a generator nobody else draws
from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from h2q.core.errors import UsageError
from h2q.core.sampling_options import SamplingOptions
from h2q.engine.sampling.cuts import min_p, top_k, top_p, typical
from h2q.engine.sampling.likelihood import Distribution, FloatArray
from h2q.engine.sampling.penalties import Recent, penalized

Mask = npt.NDArray[np.bool_]
BLOCK = 512  # weights summed together on the way to a draw


class Sampler:
    """Chooses tokens in the order that Hugging Face transformers has: bias and penalties, then
    temperature, top_k, top_p, min_p, typical_p, then a draw.

    Each choice takes one number from a generator that belongs to this stream, so equal seeds give
    equal texts whatever other streams do. The four options of most calls can be given alone; `of`
    takes all of them. Raises UsageError as SamplingOptions does.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> None:
        self._begin(SamplingOptions(temperature, top_k, top_p, seed=seed), ())

    @classmethod
    def of(cls, options: SamplingOptions, prompt: Sequence[int] = ()) -> Sampler:
        """A sampler with these options that has seen the prompt."""
        made = cls.__new__(cls)
        made._begin(options, prompt)
        return made

    def _begin(self, options: SamplingOptions, prompt: Sequence[int]) -> None:
        self.options = options
        self._random = np.random.default_rng(None if options.seed == -1 else options.seed)
        self._recent = Recent(options.repeat_last_n if options.penalizes else 0)
        if options.penalizes:
            window = options.repeat_last_n
            self._recent.extend(prompt if window < 0 else prompt[-window:])
        self._bias_ids = np.array([token for token, _ in options.logit_bias], np.int64)
        self._bias = np.array([value for _, value in options.logit_bias], np.float32)

    def accept(self, token: int) -> None:
        """The token that became part of the text; later choices know of it."""
        self._recent.add(token)

    def choose(self, logits: FloatArray, allowed: Mask | None = None) -> npt.NDArray[np.int64]:
        """One token per row, one draw after another: float32 (B, vocab_size) to int64 (B,).

        `allowed`, bool (vocab_size,), forbids tokens. Raises KernelError when the logits are no
        numbers, UsageError when nothing is allowed or a bias is for a token the model lacks.
        """
        return np.array([self.step(row, allowed) for row in logits], np.int64)

    def step(self, logits: FloatArray, allowed: Mask | None = None) -> int:
        """The token chosen from one row: float32 (vocab_size,), left unchanged."""
        return self.pick(Distribution(logits), allowed)

    def pick(self, found: Distribution, allowed: Mask | None = None) -> int:
        """The token chosen from logits that were read before."""
        changed = self._changed(found.logits)
        if self.options.temperature == 0 and allowed is None and changed is found.logits:
            return found.best[0]
        ids, scores = self._permitted(changed, allowed)
        if self.options.temperature == 0:
            at = int(np.argmax(scores))
        else:
            kept, weights = self._kept(scores)
            at = drawn(weights, float(self._random.random()))
            at = at if kept is None else int(kept[at])
        return at if ids is None else int(ids[at])

    def _changed(self, logits: FloatArray) -> FloatArray:
        options = self.options
        ids, counts = self._recent.counts()
        if not len(ids) and not len(self._bias):
            return logits
        changed: FloatArray = logits.copy()
        if len(self._bias):
            if self._bias_ids[-1] >= len(logits):
                raise UsageError(
                    f"logit_bias names token {self._bias_ids[-1]}, the model has {len(logits):,}.",
                    where="logit_bias",
                )
            changed[self._bias_ids] += self._bias
        if len(ids):
            changed[ids] = penalized(
                changed[ids],
                counts,
                options.repeat_penalty,
                options.presence_penalty,
                options.frequency_penalty,
            )
        return changed

    @staticmethod
    def _permitted(
        scores: FloatArray, allowed: Mask | None
    ) -> tuple[npt.NDArray[np.intp] | None, FloatArray]:
        if allowed is None:
            return None, scores
        ids = np.flatnonzero(allowed[: len(scores)])
        if not len(ids):
            raise UsageError("The grammar allows no token here.")
        return ids, scores[ids]

    def _kept(self, scores: FloatArray) -> tuple[npt.NDArray[np.intp] | None, FloatArray]:
        """Indices that pass every cut (None: all) and their weights."""
        options = self.options
        kept: npt.NDArray[np.intp] | None = None
        if 0 < options.top_k < len(scores):
            kept = top_k(scores, options.top_k)
            scores = scores[kept]
        if options.min_p > 0 and options.top_p == 1:
            # Nothing before it needs a sum, so the rest is not even exponentiated.
            kept, scores = _narrowed(kept, scores, self._above(scores))
        scaled = (scores - scores.max()) / np.float32(options.temperature)
        weights = np.exp(scaled)
        if options.top_p < 1:
            inner = top_p(scaled, weights, options.top_p)
            kept, scaled = _narrowed(kept, scaled, inner)
            if options.min_p > 0:
                kept, scaled = _narrowed(kept, scaled, min_p(scaled, options.min_p))
            weights = np.exp(scaled)
        if options.typical_p < 1:
            inner = typical(scaled, weights, options.typical_p)
            kept, weights = _narrowed(kept, weights, inner)
        return kept, weights

    def _above(self, scores: FloatArray) -> npt.NDArray[np.intp]:
        # p / p_max >= m means (x - x_max) / T >= log m.
        floor = scores.max() + np.float32(np.log(self.options.min_p) * self.options.temperature)
        return np.flatnonzero(scores >= floor)


def _narrowed(
    kept: npt.NDArray[np.intp] | None, scores: FloatArray, inner: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    return (inner if kept is None else kept[inner]), scores[inner]


def drawn(weights: FloatArray, uniform: float) -> int:
    """The index whose share of the cumulative weights holds `uniform` (0 to 1, without 1).

    Blocks are summed first, so that only one of them is walked through.
    """
    if len(weights) <= 2 * BLOCK:
        return _walked(np.cumsum(weights, dtype=np.float64), uniform)
    whole = len(weights) // BLOCK * BLOCK
    sums = [weights[:whole].reshape(-1, BLOCK).sum(axis=1), weights[whole:].sum(keepdims=True)]
    blocks = np.cumsum(np.concatenate(sums), dtype=np.float64)
    block = _walked(blocks, uniform)
    before = float(blocks[block - 1]) if block else 0.0
    begin = block * BLOCK
    inside = np.cumsum(weights[begin : begin + BLOCK], dtype=np.float64)
    rest = (uniform * float(blocks[-1]) - before) / float(inside[-1])
    return begin + _walked(inside, min(max(rest, 0.0), 1.0))


def _walked(sums: npt.NDArray[np.float64], uniform: float) -> int:
    at = int(np.searchsorted(sums, uniform * sums[-1], side="right"))
    if at == len(sums):  # rounding: the last index that has weight
        at = int(np.searchsorted(sums, sums[-1], side="left"))
    return at
