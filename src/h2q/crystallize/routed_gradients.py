"""Derivatives of a mixture of experts, by hand: through the experts a token chose, and through the
scores they were weighted by. Which experts are chosen has no derivative.
"""

from __future__ import annotations

import numpy as np

from h2q.crystallize.gradients import Heard, gated_back
from h2q.crystallize.moments import FloatArray
from h2q.engine.experts import LEAST_SUM, Choice, Mixture, Router
from h2q.engine.projections import Apply


def mixture_back(mixture: Mixture, x: FloatArray, grad: FloatArray, heard: Heard) -> FloatArray:
    """Derivative at the input of a mixture, float32 (T, width). `heard` is told, for an expert's
    matrices, the derivatives of the rows that chose it, and nothing of experts nobody chose.
    """
    mlps = mixture.experts.mlps
    choice = mixture.router(x)
    out = np.zeros_like(x)
    at_weights = np.zeros((len(x), len(mlps)), np.float32)
    for expert, (rows, weights) in enumerate(choice.rows(len(mlps))):
        if not len(rows):
            continue
        mlp, mine = mlps[expert], x[rows]
        at_weights[rows, expert] = np.sum(grad[rows] * mlp(mine, Apply()), axis=-1)
        out[rows] += gated_back(mlp, mine, weights[:, None] * grad[rows], heard)
    out += router_back(mixture.router, x, choice, at_weights)
    if mixture.shared is not None:
        share = mixture.share(x)
        out += gated_back(mixture.shared, x, share * grad, heard)
        if mixture.shared_gate is not None:
            at_share = np.sum(grad * mixture.shared(x, Apply()), axis=-1, keepdims=True)
            out += (at_share * share * (1 - share)) * mixture.shared_gate
    return out


def router_back(
    router: Router, x: FloatArray, choice: Choice, at_weights: FloatArray
) -> FloatArray:
    """Derivative at a router's input, float32 (T, width), from those at its weights, float32 (T,
    num_experts), zero where an expert was not chosen.
    """
    scores = router.scores(x)
    chosen = np.zeros_like(scores)
    np.put_along_axis(chosen, choice.experts, np.float32(1), axis=-1)
    grad = at_weights * np.float32(router.spec.routed_scaling_factor)
    if router.spec.norm_topk_prob:
        kept = scores * chosen
        total = kept.sum(axis=-1, keepdims=True) + LEAST_SUM
        inner = np.sum(grad * kept, axis=-1, keepdims=True) / total
        grad = chosen * (grad - inner) / total
    if router.spec.scoring_func == "sigmoid":
        grad = grad * scores * (1 - scores)
    else:
        grad = scores * (grad - np.sum(grad * scores, axis=-1, keepdims=True))
    return np.asarray(grad @ router.gate, np.float32)
