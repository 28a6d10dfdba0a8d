"""Grouped-query attention (Ainslie et al. 2023) of one layer."""

from __future__ import annotations

from dataclasses import dataclass

from h2q import kernels
from h2q.core.attention import AttentionRule
from h2q.core.specs import ModelSpec
from h2q.engine.cache import Attending
from h2q.engine.positions import Positions
from h2q.engine.projections import Apply, FloatArray, Matrices, Projection


@dataclass(frozen=True)
class Attention:
    """q/k/v and o projections. index: which layer of the model it is. q_norm, k_norm: float32
    (head_dim,) or None. biases: of q, k and v; o_bias: of o; where the model has them.
    sinks: float32 (heads,) or None.
    """

    name: str
    index: int
    qkv: Projection
    o: Projection
    rule: AttentionRule
    q_norm: FloatArray | None = None
    k_norm: FloatArray | None = None
    biases: tuple[FloatArray, ...] = ()
    o_bias: tuple[FloatArray, ...] = ()
    sinks: FloatArray | None = None

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
        q, k, v = apply(f"{self.name}.in", self.qkv, x, self.biases)
        mine = at.of_layer(spec, self.index)
        q = placed(spec, q, self.q_norm, mine)
        k = placed(spec, k, self.k_norm, mine)
        v = v.reshape(len(x), -1, spec.head_dim)
        mixed = cache.attend(slot, q, k, v, self.rule, self.sinks)
        return apply(f"{self.name}.out", self.o, mixed, self.o_bias)[0]

    def matrices(self) -> list[Matrices]:
        """All that may be exchanged."""
        return [self.qkv, self.o]


def placed(
    spec: ModelSpec, x: FloatArray, gain: FloatArray | None, at: Positions | None
) -> FloatArray:
    """Queries or keys, normalised and turned: float32 (T, heads * head_dim) to (T, heads,
    head_dim).
    """
    heads: FloatArray = x.reshape(len(x), -1, spec.head_dim)
    if gain is not None:
        flat = kernels.rms_norm(heads.reshape(-1, spec.head_dim), gain, spec.rms_norm_eps)
        heads = flat.reshape(heads.shape)
    return heads if at is None else at.turn(heads)
