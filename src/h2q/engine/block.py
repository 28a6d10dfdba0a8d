"""One block of the decoder: attention and MLP, each behind its norm, added to the stream.

A function of a stream, so that a model can also be run a layer at a time, each layer for all
tokens: growing and measuring models that do not fit into memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from h2q import kernels
from h2q.core.attention import AttentionRule
from h2q.core.specs import ModelSpec
from h2q.engine.cache import Attending, Cache
from h2q.engine.experts import Mixture
from h2q.engine.latent import LatentAttention
from h2q.engine.mlp import GatedMLP
from h2q.engine.positions import Positions
from h2q.engine.projections import Apply, FloatArray, Matrices, Observer, Projection


@dataclass(frozen=True)
class Attention:
    """Grouped-query attention (Ainslie et al. 2023): q/k/v and o projections."""

    name: str
    qkv: Projection
    o: Projection

    def __call__(
        self,
        spec: ModelSpec,
        x: FloatArray,
        cache: Attending,
        slot: int,
        at: Positions,
        apply: Apply,
    ) -> FloatArray:
        """float32 (T, width) to the same."""
        q, k, v = apply(f"{self.name}.in", self.qkv, x)
        q = kernels.rope(q.reshape(len(x), -1, spec.head_dim), at.cos, at.sin)
        k = kernels.rope(k.reshape(len(x), -1, spec.head_dim), at.cos, at.sin)
        v = v.reshape(len(x), -1, spec.head_dim)
        mixed = cache.attend(slot, q, k, v, rule(spec))
        return apply(f"{self.name}.out", self.o, mixed)[0]

    def matrices(self) -> list[Matrices]:
        """All that may be exchanged."""
        return [self.qkv, self.o]


@dataclass(frozen=True)
class Layer:
    """One block: two norms, attention, MLP."""

    name: str
    input_norm: FloatArray
    attention: Attention | LatentAttention
    post_norm: FloatArray
    mlp: GatedMLP | Mixture

    def matrices(self) -> list[Matrices]:
        """All that may be exchanged."""
        return [*self.attention.matrices(), *self.mlp.matrices()]


def rule(spec: ModelSpec) -> AttentionRule:
    """How a layer's attention forms its scores."""
    return AttentionRule(1 / math.sqrt(spec.head_dim))


def run_layer(
    spec: ModelSpec,
    layer: Layer,
    x: FloatArray,
    cache: Attending,
    slot: int,
    positions: Positions,
    observer: Observer | None = None,
) -> FloatArray:
    """The stream after the block: float32 (rows, width) to the same, keys and values kept in `slot`
    of the cache. `observer` is shown (`reads` name, input) of every projection.
    """
    apply = Apply(observer)
    normed = kernels.rms_norm(x, layer.input_norm, spec.rms_norm_eps)
    x = x + layer.attention(spec, normed, cache, slot, positions, apply)
    normed = kernels.rms_norm(x, layer.post_norm, spec.rms_norm_eps)
    return x + layer.mlp(normed, apply)


def run_texts(
    spec: ModelSpec, layer: Layer, x: FloatArray, batch: int, observer: Observer | None = None
) -> FloatArray:
    """run_layer for `batch` whole texts of equal length at once, keeping no cache: float32 (batch *
    length, width) to the same.
    """
    cache, positions = _room(spec, len(x) // batch, batch)
    return run_layer(spec, layer, x, cache, 0, positions, observer)


def attend_texts(
    spec: ModelSpec, layer: Layer, normed: FloatArray, batch: int, apply: Apply
) -> FloatArray:
    """Only the attention of run_texts, from what it reads: float32 (batch * length, width) to the
    same.
    """
    cache, positions = _room(spec, len(normed) // batch, batch)
    return layer.attention(spec, normed, cache, 0, positions, apply)


def _room(spec: ModelSpec, length: int, batch: int) -> tuple[Cache, Positions]:
    cache = Cache(spec, batch, length, layers=1)
    cache.reserve(length)
    return cache, Positions.of(spec, 0, batch, length)
