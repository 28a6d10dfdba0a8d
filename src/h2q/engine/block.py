"""One block of the decoder: attention and MLP, each behind its norm, added to the stream; and what
happens to the stream at its two ends.

A function of a stream, so that a model can also be run a layer at a time, each layer for all
tokens: growing and measuring models that do not fit into memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2q import kernels
from h2q.core.specs import ModelSpec
from h2q.engine.cache import Attending, Cache
from h2q.engine.experts import Mixture
from h2q.engine.heads import Attention
from h2q.engine.latent import LatentAttention
from h2q.engine.mlp import GatedMLP
from h2q.engine.positions import Positions
from h2q.engine.projections import Apply, FloatArray, Matrices, Observer


@dataclass(frozen=True)
class Layer:
    """One block: attention behind input_norm, MLP behind post_norm; after_attention, after_mlp:
    norms of what they answer (Gemma 2), or None.
    """

    name: str
    input_norm: FloatArray
    attention: Attention | LatentAttention
    post_norm: FloatArray
    mlp: GatedMLP | Mixture
    after_attention: FloatArray | None = None
    after_mlp: FloatArray | None = None

    def matrices(self) -> list[Matrices]:
        """All that may be exchanged."""
        return [*self.attention.matrices(), *self.mlp.matrices()]


def entering(spec: ModelSpec, rows: FloatArray) -> FloatArray:
    """Rows of the embedding as they enter the first block."""
    if spec.embedding_multiplier == 1:
        return rows
    return np.asarray(rows * np.float32(spec.embedding_multiplier), np.float32)


def leaving(spec: ModelSpec, logits: FloatArray) -> FloatArray:
    """Logits from what the head answers."""
    if spec.logits_scaling != 1:
        logits = logits / np.float32(spec.logits_scaling)
    if spec.final_logit_softcapping:
        cap = np.float32(spec.final_logit_softcapping)
        logits = np.tanh(logits / cap) * cap
    return logits


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
    found = layer.attention(spec, normed, cache, slot, positions, apply)
    x = added(spec, x, found, layer.after_attention)
    del normed, found
    mlp = layer.mlp.__call__  # by name: then nobody but the callee holds what it is given
    found = mlp(kernels.rms_norm(x, layer.post_norm, spec.rms_norm_eps), apply)
    return added(spec, x, found, layer.after_mlp)


def added(spec: ModelSpec, x: FloatArray, found: FloatArray, gain: FloatArray | None) -> FloatArray:
    """The stream and what attention or MLP answered, behind its norm where it has one."""
    if gain is not None:
        found = kernels.rms_norm(found, gain, spec.rms_norm_eps)
    if spec.residual_multiplier != 1:
        found = found * np.float32(spec.residual_multiplier)
    return np.asarray(x + found, np.float32)


def run_texts(
    spec: ModelSpec, layer: Layer, x: FloatArray, batch: int, observer: Observer | None = None
) -> FloatArray:
    """run_layer for `batch` whole texts of equal length at once, keeping no cache: float32 (batch *
    length, width) to the same.
    """
    cache, positions = _once(spec, len(x), batch)
    return run_layer(spec, layer, x, cache, 0, positions, observer)


def attend_texts(
    spec: ModelSpec, layer: Layer, normed: FloatArray, batch: int, apply: Apply
) -> FloatArray:
    """What the block's attention answers normed rows of whole texts, as in run_texts."""
    cache, positions = _once(spec, len(normed), batch)
    return layer.attention(spec, normed, cache, 0, positions, apply)


def _once(spec: ModelSpec, rows: int, batch: int) -> tuple[Cache, Positions]:
    length = rows // batch
    cache = Cache(spec, batch, length, layers=1)
    cache.reserve(length)
    return cache, Positions.of(spec, 0, batch, length)
