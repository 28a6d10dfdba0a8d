"""Rotary positions (Su et al. 2021): the angles of every row, and turning by them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.core.rope import RopeScaling
from h2q.core.specs import SLIDING, ModelSpec
from h2q.engine.projections import FloatArray

MOST_SPECS = 64  # whose frequencies are kept

_turns: dict[int, tuple[ModelSpec, FloatArray, FloatArray | None]] = {}  # by address, which is held


@dataclass(frozen=True)
class Positions:
    """Cosines and sines of the position of every row, float32 (rows, rope_dim / 2); `local`: those
    of sliding layers, where a model has others for them.
    """

    cos: FloatArray
    sin: FloatArray
    local: Positions | None = None

    @classmethod
    def at(
        cls, spec: ModelSpec, positions: npt.NDArray[np.int64], plain: bool = False
    ) -> Positions:
        """Rotary angles of positions int64 (rows,). `plain`: as they add up, without the factor
        that some scalings multiply cosines and sines by.
        """
        scaling = spec.rope_scaling
        factor = 1.0 if scaling is None or plain else scaling.attention_factor
        turns, own = _turns_of(spec)
        cos, sin = _table(turns, positions, factor)
        return cls(cos, sin, None if own is None else cls(*_table(own, positions, 1.0)))

    @classmethod
    def of(cls, spec: ModelSpec, start: int, batch: int, length: int) -> Positions:
        """Those of `batch` texts that go from `start` to start + length."""
        return cls.at(spec, np.tile(np.arange(start, start + length), batch))

    def of_layer(self, spec: ModelSpec, layer: int) -> Positions | None:
        """What turns a layer's queries and keys; None where nothing does."""
        if layer in spec.no_rope_layers:
            return None
        return self.local if self.local and spec.layer_type(layer) == SLIDING else self

    def turn(self, x: FloatArray) -> FloatArray:
        """Rows turned to their positions, dimensions beyond rope_dim as they are: float32 (rows,
        heads, head_dim).
        """
        wide = 2 * self.cos.shape[1]
        if x.shape[-1] == wide:
            return kernels.rope(x, self.cos, self.sin)
        turned = kernels.rope(np.ascontiguousarray(x[..., :wide]), self.cos, self.sin)
        return np.concatenate([turned, x[..., wide:]], axis=-1)

    def back(self) -> Positions:
        """What turns the other way: the transpose of `turn`."""
        return Positions(self.cos, -self.sin)


def _turns_of(spec: ModelSpec) -> tuple[FloatArray, FloatArray | None]:
    """Frequencies of a model and those of its sliding layers, made once."""
    found = _turns.get(id(spec))
    if found is None or found[0] is not spec:
        if len(_turns) >= MOST_SPECS:
            _turns.clear()
        theta, own = spec.rope_local_base_freq, None
        if theta:
            own = base_frequencies(theta, spec.rope_dim)
        found = _turns[id(spec)] = (spec, frequencies(spec), own)
    return found[1], found[2]


def _table(
    turns: FloatArray, positions: npt.NDArray[np.int64], factor: float
) -> tuple[FloatArray, FloatArray]:
    # Angles are rounded to float32 before the cosine, as Hugging Face does: models were trained
    # that way.
    angles = (positions.astype(np.float32)[:, None] * turns).astype(np.float64)
    cos, sin = np.cos(angles), np.sin(angles)
    if factor != 1:
        cos, sin = factor * cos, factor * sin
    return cos.astype(np.float32), sin.astype(np.float32)


def base_frequencies(theta: float, dim: int) -> FloatArray:
    """Rotary frequencies of `dim` dimensions, float32 (dim / 2,)."""
    powers = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    return np.asarray(1.0 / np.float32(theta) ** powers, np.float32)


def frequencies(spec: ModelSpec) -> FloatArray:
    """Rotary frequencies, scaled as the model asks for, float32 (rope_dim / 2,)."""
    plain, scaling = base_frequencies(spec.rope_theta, spec.rope_dim), spec.rope_scaling
    if scaling is None:
        return plain
    if scaling.rope_type == "linear":
        return np.asarray(plain / np.float32(scaling.factor), np.float32)
    if scaling.rope_type == "llama3":
        return _llama3(plain, scaling)
    if scaling.rope_type == "yarn":
        return _yarn(plain, scaling, spec)
    return np.asarray(plain / np.array(scaling.factors, np.float32))


def _llama3(plain: FloatArray, scaling: RopeScaling) -> FloatArray:
    """Llama 3.1 (Grattafiori et al. 2024): waves longer than the first context are stretched, short
    ones are not, those between in part.
    """
    length, low, high = (
        scaling.original_max_position_embeddings,
        scaling.low_freq_factor,
        scaling.high_freq_factor,
    )
    turns = np.float32(length) * plain / np.float32(2 * math.pi)  # over the first context
    kept = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray((1 - kept) * plain / np.float32(scaling.factor) + kept * plain, np.float32)


def _yarn(plain: FloatArray, scaling: RopeScaling, spec: ModelSpec) -> FloatArray:
    """YaRN (Peng et al. 2023): a ramp over dimensions from kept to stretched, between those that
    turn beta_fast and beta_slow times over the first context.
    """
    dim = spec.rope_dim
    length = scaling.original_max_position_embeddings

    def dimension(turns: float) -> float:
        return dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(spec.rope_theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    width = high - low if high != low else 1e-3
    ramp = (np.arange(len(plain), dtype=np.float32) - np.float32(low)) / np.float32(width)
    stretched = np.clip(ramp, 0, 1)
    return np.asarray(
        plain / np.float32(scaling.factor) * stretched + plain * (1 - stretched), np.float32
    )
