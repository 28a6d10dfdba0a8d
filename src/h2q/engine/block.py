"""One block of the decoder: attention and MLP, each behind its norm, added to the stream.

A function of a stream, so that a model can also be run a layer at a time, each layer for all
tokens: growing and measuring models that do not fit into memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.core.specs import ModelSpec
from h2q.engine.cache import Cache
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
    """Cosines and sines of a run of positions for every row of a batch, float32 (batch * length,
    head_dim / 2).
    """

    cos: FloatArray
    sin: FloatArray

    @classmethod
    def of(cls, spec: ModelSpec, start: int, batch: int, length: int) -> Positions:
        """Rotary angles (Su et al. 2021) of positions start to start + length."""
        positions = np.arange(start, start + length, dtype=np.float32)
        # Angles are rounded to float32 before the cosine, as Hugging Face does: models were trained
        # that way.
        angles = np.tile(positions[:, None] * frequencies(spec), (batch, 1)).astype(np.float64)
        return cls(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))


def frequencies(spec: ModelSpec) -> FloatArray:
    """Rotary frequencies, float32 (head_dim / 2,)."""
    powers = np.arange(0, spec.head_dim, 2, dtype=np.float32) / np.float32(spec.head_dim)
    return np.asarray(1.0 / np.float32(spec.rope_theta) ** powers, np.float32)


def run_layer(
    spec: ModelSpec,
    layer: Layer,
    x: FloatArray,
    cache: Cache,
    slot: int,
    positions: Positions,
    observer: Observer | None = None,
) -> FloatArray:
    """The stream after the block: float32 (batch * length, width) to the same. Keys and values go
    into `slot` of the cache at its current length, which is not moved. `observer` is shown
    (`reads` name, input) of every projection.
    """

    def apply(reads: str, projection: Projection, x: FloatArray) -> list[FloatArray]:
        if observer is not None:
            observer(reads, x)
        return projection(x)

    normed = kernels.rms_norm(x, layer.input_norm, spec.rms_norm_eps)
    q, k, v = apply(f"{layer.name}.self_attn.in", layer.qkv, normed)
    q = kernels.rope(q.reshape(len(x), -1, spec.head_dim), positions.cos, positions.sin)
    k = kernels.rope(k.reshape(len(x), -1, spec.head_dim), positions.cos, positions.sin)
    split = (cache.batch, len(x) // cache.batch, -1, spec.head_dim)
    cache.store(slot, k.reshape(split), v.reshape(split))
    mixed = kernels.attention(q.reshape(split), cache.keys[slot], cache.values[slot], cache.length)
    x = x + apply(f"{layer.name}.self_attn.out", layer.o, mixed.reshape(len(x), -1))[0]
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
