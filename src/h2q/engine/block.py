"""One block of the decoder: attention and MLP, each behind its norm, added to the stream.

A function of a stream, so that a model can also be run a layer at a time, each layer for all
tokens: growing and measuring models that do not fit into memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.core.attention import AttentionRule
from h2q.core.specs import ModelSpec
from h2q.engine.cache import Attending, Cache
from h2q.engine.projections import FloatArray, Observer, Projection


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


@dataclass(frozen=True)
class Positions:
    """Cosines and sines of the position of every row, float32 (rows, head_dim / 2)."""

    cos: FloatArray
    sin: FloatArray

    @classmethod
    def at(cls, spec: ModelSpec, positions: npt.NDArray[np.int64]) -> Positions:
        """Rotary angles (Su et al. 2021) of positions int64 (rows,)."""
        # Angles are rounded to float32 before the cosine, as Hugging Face does: models were trained
        # that way.
        angles = (positions.astype(np.float32)[:, None] * frequencies(spec)).astype(np.float64)
        return cls(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))

    @classmethod
    def of(cls, spec: ModelSpec, start: int, batch: int, length: int) -> Positions:
        """Those of `batch` texts that go from `start` to start + length."""
        return cls.at(spec, np.tile(np.arange(start, start + length), batch))


def rule(spec: ModelSpec) -> AttentionRule:
    """How a layer's attention forms its scores."""
    return AttentionRule(1 / math.sqrt(spec.head_dim))


def frequencies(spec: ModelSpec) -> FloatArray:
    """Rotary frequencies, float32 (head_dim / 2,)."""
    powers = np.arange(0, spec.head_dim, 2, dtype=np.float32) / np.float32(spec.head_dim)
    return np.asarray(1.0 / np.float32(spec.rope_theta) ** powers, np.float32)


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

    def apply(reads: str, projection: Projection, x: FloatArray) -> list[FloatArray]:
        if observer is not None:
            observer(reads, x)
        return projection(x)

    normed = kernels.rms_norm(x, layer.input_norm, spec.rms_norm_eps)
    q, k, v = apply(f"{layer.name}.self_attn.in", layer.qkv, normed)
    q = kernels.rope(q.reshape(len(x), -1, spec.head_dim), positions.cos, positions.sin)
    k = kernels.rope(k.reshape(len(x), -1, spec.head_dim), positions.cos, positions.sin)
    v = v.reshape(len(x), -1, spec.head_dim)
    mixed = cache.attend(slot, q, k, v, rule(spec))
    x = x + apply(f"{layer.name}.self_attn.out", layer.o, mixed)[0]
    normed = kernels.rms_norm(x, layer.post_norm, spec.rms_norm_eps)
    gate, up = apply(f"{layer.name}.mlp.in", layer.gate_up, normed)
    out: npt.NDArray[np.float32] = apply(
        f"{layer.name}.mlp.out", layer.down, kernels.swiglu(gate, up)
    )[0]
    return x + out


def run_texts(
    spec: ModelSpec, layer: Layer, x: FloatArray, batch: int, observer: Observer | None = None
) -> FloatArray:
    """run_layer for `batch` whole texts of equal length at once, keeping no cache: float32 (batch *
    length, width) to the same.
    """
    length = len(x) // batch
    cache = Cache(replace(spec, num_hidden_layers=1), batch, length)
    cache.reserve(length)
    positions = Positions.of(spec, 0, batch, length)
    return run_layer(spec, layer, x, cache, 0, positions, observer)
