"""Multi-head latent attention in its absorbed form (DeepSeek-V2, 2024).

A token's keys and values of all heads are an expansion of one short row, the latent c:

    k_h = A_h c,  v_h = B_h c,  so  q_h . k_h = (A_h^T q_h) . c  and  sum p v_h = B_h (sum p c)

So queries go down to the latent, attention runs over latents, and only its result is expanded. What
is kept of a token is c and the one key with positions that all heads share: 576 numbers where 128
heads of DeepSeek-V3 would have 40,960. The price is scores that are three times as long, which one
token at a time never feels.

A and B (kv_b_proj) are coded like every matrix, but held dense, decoded when they are bound. A_h^T
is a product over the rows of what was coded, and planes only know products over their columns; they
are below a hundredth of a layer with experts, so nothing is won by coding them twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2q import kernels
from h2q.core.attention import AttentionRule
from h2q.core.latent_spec import LatentSpec
from h2q.core.specs import ModelSpec
from h2q.engine.cache import Attending
from h2q.engine.positions import Positions
from h2q.engine.projections import Apply, FloatArray, HeldMatrix, Matrices, Projection

NORM_EPS = 1e-6  # of the norms inside, whatever those of the stream have


class Expansion:
    """The two halves of kv_b_proj, by head."""

    def __init__(self, latent: LatentSpec, matrix: HeldMatrix) -> None:
        self.latent, self.matrix = latent, matrix
        self._split: tuple[FloatArray, FloatArray] | None = None
        self._version = -1

    def halves(self, c: FloatArray) -> tuple[FloatArray, FloatArray]:
        """A^T, float32 (heads, kv_lora_rank, qk_nope_head_dim), and B, (heads, v_head_dim,
        kv_lora_rank). c: float32 (T, kv_lora_rank), what the matrix would be multiplied by.
        """
        if self._split is None or self._version != self.matrix.version:
            whole, nope = self.matrix(c), self.latent.qk_nope_head_dim
            heads = whole.reshape(-1, nope + self.latent.v_head_dim, whole.shape[1])
            down = np.ascontiguousarray(heads[:, :nope].transpose(0, 2, 1))
            self._split = down, np.ascontiguousarray(heads[:, nope:])
            self._version = self.matrix.version
        return self._split


@dataclass(frozen=True)
class LatentAttention:
    """down: q_proj (or q_a_proj) and kv_a_proj_with_mqa. q_norm and q_up: what makes queries of
    q_a_proj's row, or None.
    """

    name: str
    latent: LatentSpec
    down: Projection
    q_norm: FloatArray | None
    q_up: Projection | None
    kv_norm: FloatArray
    expansion: Expansion
    o: Projection
    rule: AttentionRule

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
        latent, rank, nope = self.latent, self.latent.kv_lora_rank, self.latent.qk_nope_head_dim
        q, row = apply(f"{self.name}.in", self.down, x)
        if self.q_up is not None and self.q_norm is not None:
            q = kernels.rms_norm(q, self.q_norm, NORM_EPS)
            q = apply(f"{self.name}.q_b.in", self.q_up, q)[0]
        q = q.reshape(len(x), spec.num_attention_heads, latent.qk_head_dim)
        c = kernels.rms_norm(np.ascontiguousarray(row[:, :rank]), self.kv_norm, NORM_EPS)
        apply.show(f"{self.name}.kv_b.in", c)
        down, up = self.expansion.halves(c)
        turned = at.turn(np.ascontiguousarray(q[..., nope:]))
        key = at.turn(np.ascontiguousarray(row[:, None, rank:]))
        queries = np.concatenate([by_head(q[..., :nope], down), turned], axis=-1)
        rows = np.concatenate([c[:, None], key], axis=-1)
        mixed = cache.attend(slot, queries, rows, c[:, None], self.rule)
        values = by_head(mixed.reshape(len(x), -1, rank), up).reshape(len(x), -1)
        return apply(f"{self.name}.out", self.o, values)[0]

    def matrices(self) -> list[Matrices]:
        """All that may be exchanged."""
        ups = [] if self.q_up is None else [self.q_up]
        return [self.down, *ups, self.expansion.matrix, self.o]


def by_head(x: FloatArray, matrices: FloatArray) -> FloatArray:
    """Each head's own matrix: float32 (T, heads, n), (heads, m, n) to (T, heads, m)."""
    out = np.empty((*x.shape[:2], matrices.shape[1]), np.float32)
    for head, matrix in enumerate(matrices):
        out[:, head] = kernels.matmul_dense(np.ascontiguousarray(x[:, head]), matrix)
    return out
