"""The decoder: embedding, layers, final norm, head. A family is a list of tensors plus its one
difference.

Today's family is llama (Touvron et al. 2023): pre-norm, grouped-query attention with rotary
positions, gated MLP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.core.errors import UsageError
from h2q.core.specs import ModelSpec
from h2q.engine.cache import Cache
from h2q.engine.projections import Embedding, FloatArray, Observer, Projection

TokenArray = npt.NDArray[np.int64]
HiddenObserver = Callable[[int, FloatArray], None]


@dataclass(frozen=True)
class Layer:
    """One block: two norms, q/k/v and o projections, gate/up and down projections."""

    name: str
    input_norm: FloatArray
    qkv: Projection
    o: Projection
    post_norm: FloatArray
    gate_up: Projection
    down: Projection


class Model:
    """A runnable network. `observer`, when set, is shown (`reads` name, input) of every
    projection; `hidden_observer` (index of the layer, residual stream after it, float32 (B * T,
    width)), after the embedding with index -1. What it is shown must not be changed.
    """

    def __init__(
        self,
        spec: ModelSpec,
        embedding: Embedding,
        layers: list[Layer],
        norm: FloatArray,
        head: Projection,
    ) -> None:
        self.spec, self.embedding, self.layers = spec, embedding, layers
        self.norm, self.head = norm, head
        self.observer: Observer | None = None
        self.hidden_observer: HiddenObserver | None = None
        self._frequencies = _frequencies(spec)

    def new_cache(self, batch: int = 1, capacity: int = 128) -> Cache:
        """An empty cache for `batch` streams of equal length."""
        return Cache(self.spec, batch, capacity)

    def forward(self, tokens: TokenArray, cache: Cache, last: bool = False) -> FloatArray:
        """Logits of the next token after each position; appends to the cache.

        tokens: int64 (B, T). Returns float32 (B, T, vocab_size), or (B, 1, vocab_size) with `last`.
        Raises UsageError when a token lies outside the vocabulary or the context is full.
        """
        batch, length = tokens.shape
        if tokens.size == 0:
            raise UsageError("There is no token to run the model on.")
        if tokens.min() < 0 or tokens.max() >= self.spec.vocab_size:
            raise UsageError(
                f"A token id lies outside the vocabulary of {self.spec.vocab_size:,}.",
                fix="Is this the tokenizer the model was trained with?",
            )
        cache.reserve(length)
        cos, sin = self._positions(cache.length, batch, length)
        x = self.embedding(tokens.reshape(-1))
        self._show(-1, x)
        for index, layer in enumerate(self.layers):
            x = x + self._attention(layer, index, x, cache, cos, sin)
            x = x + self._mlp(layer, x)
            self._show(index, x)
        cache.length += length
        if last:
            x = np.ascontiguousarray(x.reshape(batch, length, -1)[:, -1])
        x = kernels.rms_norm(x, self.norm, self.spec.rms_norm_eps)
        logits = self._apply("model.head", self.head, x)[0]
        return np.asarray(logits.reshape(batch, -1, self.spec.vocab_size))

    def _show(self, layer: int, x: FloatArray) -> None:
        if self.hidden_observer is not None:
            self.hidden_observer(layer, x)

    def _apply(self, reads: str, projection: Projection, x: FloatArray) -> list[FloatArray]:
        if self.observer is not None:
            self.observer(reads, x)
        return projection(x)

    def _attention(
        self,
        layer: Layer,
        index: int,
        x: FloatArray,
        cache: Cache,
        cos: FloatArray,
        sin: FloatArray,
    ) -> FloatArray:
        spec, batch = self.spec, cache.batch
        normed = kernels.rms_norm(x, layer.input_norm, spec.rms_norm_eps)
        q, k, v = self._apply(f"{layer.name}.self_attn.in", layer.qkv, normed)
        q = kernels.rope(q.reshape(len(x), -1, spec.head_dim), cos, sin)
        k = kernels.rope(k.reshape(len(x), -1, spec.head_dim), cos, sin)
        split = (batch, len(x) // batch, -1, spec.head_dim)
        cache.store(index, k.reshape(split), v.reshape(split))
        mixed = kernels.attention(
            q.reshape(split), cache.keys[index], cache.values[index], cache.length
        )
        return self._apply(f"{layer.name}.self_attn.out", layer.o, mixed.reshape(len(x), -1))[0]

    def _mlp(self, layer: Layer, x: FloatArray) -> FloatArray:
        normed = kernels.rms_norm(x, layer.post_norm, self.spec.rms_norm_eps)
        gate, up = self._apply(f"{layer.name}.mlp.in", layer.gate_up, normed)
        return self._apply(f"{layer.name}.mlp.out", layer.down, kernels.swiglu(gate, up))[0]

    def _positions(self, start: int, batch: int, length: int) -> tuple[FloatArray, FloatArray]:
        """Cosines and sines, float32 (batch * length, head_dim / 2)."""
        positions = np.arange(start, start + length, dtype=np.float32)
        # Angles are rounded to float32 before the cosine, as Hugging Face does: models were trained
        # that way.
        angles = np.tile(positions[:, None] * self._frequencies, (batch, 1)).astype(np.float64)
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _frequencies(spec: ModelSpec) -> FloatArray:
    """Rotary frequencies, float32 (head_dim / 2,)."""
    powers = np.arange(0, spec.head_dim, 2, dtype=np.float32) / np.float32(spec.head_dim)
    return np.asarray(1.0 / np.float32(spec.rope_theta) ** powers, np.float32)
