"""A mixture of experts (Shazeer et al. 2017): a router chooses a few MLPs for every token and adds
their answers, weighted.

Whatever rows stand beside it, a token's answer is the same to the last bit: the router's products
have a fixed order of additions, and answers are added by rising number of the expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.core.expert_spec import ExpertSpec
from h2q.engine.mlp import GatedMLP
from h2q.engine.projections import Apply, FloatArray, Matrices

LEAST_SUM = np.float32(1e-20)  # of chosen scores, as DeepSeek-V3 adds it


@dataclass(frozen=True)
class Choice:
    """experts: int64 (T, num_experts_per_tok), all different in a row. weights: float32, alike."""

    experts: npt.NDArray[np.int64]
    weights: FloatArray

    def rows(self, count: int) -> list[tuple[npt.NDArray[np.int64], FloatArray]]:
        """For each of `count` experts the rows that chose it, rising, and their weights."""
        flat = self.experts.reshape(-1)
        order = np.argsort(flat, kind="stable")
        ends = np.cumsum(np.bincount(flat, minlength=count))[:-1]
        places, weights = order // self.experts.shape[1], self.weights.reshape(-1)[order]
        return list(zip(np.split(places, ends), np.split(weights, ends), strict=True))


@dataclass(frozen=True)
class Router:
    """gate: float32 (num_experts, width). correction: float32 (num_experts,), added to scores while
    choosing and only then (Wang et al. 2024), or None. bias: of the gate, alike, or None.
    """

    spec: ExpertSpec
    gate: FloatArray
    correction: FloatArray | None = None
    bias: FloatArray | None = None

    def scores(self, x: FloatArray) -> FloatArray:
        """What the router thinks of every expert: float32 (T, width) to (T, num_experts)."""
        logits = kernels.matmul_dense(x, self.gate).astype(np.float64)
        if self.bias is not None:
            logits += self.bias
        if self.spec.scoring_func == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=-1, keepdims=True), np.float32)

    def __call__(self, x: FloatArray) -> Choice:
        """Experts of every token, float32 (T, width), best first; the lower number wins a tie."""
        scores = self.scores(x)
        ranked = scores if self.correction is None else scores + self.correction
        if self.spec.n_group > 1:
            ranked = self._in_groups(ranked)
        best = np.argsort(-ranked, axis=-1, kind="stable")[:, : self.spec.num_experts_per_tok]
        weights = np.take_along_axis(scores, best, axis=-1)
        if self.spec.norm_topk_prob:
            weights = weights / (weights.sum(axis=-1, keepdims=True) + LEAST_SUM)
        return Choice(best, weights * np.float32(self.spec.routed_scaling_factor))

    def _in_groups(self, ranked: FloatArray) -> FloatArray:
        """Minus infinity outside of each token's best groups (device-limited routing, DeepSeek-V2):
        by their best expert, with a correction by the sum of their two best.
        """
        groups = ranked.reshape(len(ranked), self.spec.n_group, -1)
        count = 2 if self.spec.topk_method == "noaux_tc" else 1
        worth = np.sort(groups, axis=-1)[..., -count:].sum(axis=-1)
        best = np.argsort(-worth, axis=-1, kind="stable")[:, : self.spec.topk_group]
        kept = np.full(groups.shape, -np.inf, np.float32)
        np.put_along_axis(
            kept, best[..., None], np.take_along_axis(groups, best[..., None], axis=1), axis=1
        )
        return kept.reshape(ranked.shape)


class Experts(Protocol):
    """The MLPs behind a router."""

    @property
    def mlps(self) -> Sequence[GatedMLP]: ...

    def __call__(self, x: FloatArray, choice: Choice, apply: Apply) -> FloatArray:
        """The weighted sum of the chosen experts' answers: float32 (T, width) to the same."""
        ...


class Dispatch:
    """Each expert runs once, on the rows that chose it."""

    def __init__(self, mlps: Sequence[GatedMLP]) -> None:
        self.mlps = mlps

    def __call__(self, x: FloatArray, choice: Choice, apply: Apply) -> FloatArray:
        """See Experts."""
        out = np.zeros_like(x)
        for mlp, (rows, weights) in zip(self.mlps, choice.rows(len(self.mlps)), strict=True):
            if len(rows):
                out[rows] += weights[:, None] * mlp(x[rows], apply)
        return out


@dataclass(frozen=True)
class Mixture:
    """A router, its experts, and an MLP that all tokens share, or None. shared_gate: float32 (1,
    width), what decides how much that MLP's answer counts (Qwen2-MoE), or None: all of it.
    """

    name: str
    router: Router
    experts: Experts
    shared: GatedMLP | None
    shared_gate: FloatArray | None = None

    def __call__(self, x: FloatArray, apply: Apply) -> FloatArray:
        """float32 (T, width) to the same."""
        apply.show(f"{self.name}.in", x)
        out = self.experts(x, self.router(x), apply)
        return out if self.shared is None else out + self.share(x) * self.shared(x, apply)

    def share(self, x: FloatArray) -> FloatArray:
        """What the shared MLP's answer is multiplied by: float32 (T, 1), or one."""
        if self.shared_gate is None:
            return np.ones((1, 1), np.float32)
        logits = kernels.matmul_dense(x, self.shared_gate).astype(np.float64)
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)

    def matrices(self) -> list[Matrices]:
        """All that may be exchanged."""
        mlps = [*self.experts.mlps, *([] if self.shared is None else [self.shared])]
        return [matrix for mlp in mlps for matrix in mlp.matrices()]
