"""The decoder: embedding, layers, final norm, head. A family is a list of tensors plus its one
difference.

All are llamas at heart (Touvron et al. 2023): norms before, attention with rotary positions,
grouped or through a latent, a gated MLP or a choice of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.core.architecture import HEAD_INPUT
from h2q.core.errors import UsageError
from h2q.core.specs import ModelSpec
from h2q.engine.block import Layer, entering, leaving, run_layer
from h2q.engine.cache import Attending, Cache
from h2q.engine.positions import Positions
from h2q.engine.projections import Embedding, FloatArray, Observer, Projection
from h2q.engine.rows import Rows
from h2q.engine.whole import Whole

TokenArray = npt.NDArray[np.int64]
HiddenObserver = Callable[[int, FloatArray], None]


class Model:
    """A runnable network. `observer`, when set, is shown (`reads` name, input) of every
    projection; `hidden_observer` (index of the layer, residual stream after it, float32 (B * T,
    width)), after the embedding with index -1. What it is shown must not be changed.
    """

    def __init__(
        self,
        spec: ModelSpec,
        embedding: Embedding,
        layers: Collection[Layer],
        norm: FloatArray,
        head: Projection,
    ) -> None:
        self.spec, self.embedding = spec, embedding
        self.layers: Collection[Layer] = layers
        self.norm, self.head = norm, head
        self.observer: Observer | None = None
        self.hidden_observer: HiddenObserver | None = None
        self._together: Whole | None = None
        self._looked = False

    def new_cache(self, batch: int = 1, capacity: int = 128) -> Cache:
        """An empty cache for `batch` streams of equal length."""
        return Cache(self.spec, batch, capacity)

    def forward(self, tokens: TokenArray, cache: Cache, last: bool = False) -> FloatArray:
        """Logits of the next token after each position; appends to the cache.

        tokens: int64 (B, T). Returns float32 (B, T, vocab_size), or (B, 1, vocab_size) with `last`.
        Raises UsageError when a token lies outside the vocabulary or the context is full.
        """
        batch, length = tokens.shape
        require_tokens(tokens, self.spec)
        cache.reserve(length)
        positions = np.tile(np.arange(cache.length, cache.length + length), batch)
        x = self.hidden(tokens.reshape(-1), positions, cache)
        cache.length += length
        if last:
            x = np.ascontiguousarray(x.reshape(batch, length, -1)[:, -1])
        return np.asarray(self.logits(x).reshape(batch, -1, self.spec.vocab_size))

    def step(
        self,
        tokens: TokenArray,
        positions: TokenArray,
        cache: Attending,
        wanted: Sequence[int],
    ) -> FloatArray:
        """Logits after the `wanted` rows, which rise: float32 (len(wanted), vocab_size). tokens,
        positions: int64 (rows,), of any streams; the cache knows which.
        """
        x = self.hidden(tokens, positions, cache)
        return self.logits(x if len(wanted) == len(x) else x[np.array(wanted, np.int64)])

    def hidden(self, tokens: TokenArray, positions: TokenArray, cache: Attending) -> FloatArray:
        """The stream after the last layer: float32 (rows, width)."""
        angles = Positions.at(self.spec, positions)
        x = entering(self.spec, self.embedding(tokens))
        if self.observer is None and self.hidden_observer is None and isinstance(cache, Rows):
            whole = self._whole()
            if whole is not None:
                return whole(x, cache, angles)
        self._show(-1, x)
        for index, layer in enumerate(self.layers):
            x = run_layer(self.spec, layer, x, cache, index, angles, self.observer)
            self._show(index, x)
        return x

    def logits(self, x: FloatArray) -> FloatArray:
        """Final norm and head: float32 (T, width) to (T, vocab_size)."""
        x = kernels.rms_norm(x, self.norm, self.spec.rms_norm_eps)
        if self.observer is not None:
            self.observer(HEAD_INPUT, x)
        return leaving(self.spec, self.head(x)[0])

    def _whole(self) -> Whole | None:
        if not self._looked and isinstance(self.layers, list):  # others may still be coming
            self._together, self._looked = Whole.of(self.spec, self.layers), True
        return self._together

    def _show(self, layer: int, x: FloatArray) -> None:
        if self.hidden_observer is not None:
            self.hidden_observer(layer, x)


def require_tokens(tokens: TokenArray, spec: ModelSpec) -> None:
    """Raises UsageError where there is no token, or one outside the vocabulary."""
    if tokens.size == 0:
        raise UsageError("There is no token to run the model on.")
    if tokens.min() < 0 or tokens.max() >= spec.vocab_size:
        raise UsageError(
            f"A token id lies outside the vocabulary of {spec.vocab_size:,}.",
            fix="Is this the tokenizer the model was trained with?",
        )
