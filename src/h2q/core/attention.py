"""How one layer's attention forms its scores: plain numbers, the same for every token."""

from __future__ import annotations

import math
from dataclasses import dataclass

from h2q.core.specs import SLIDING, ModelSpec


@dataclass(frozen=True)
class AttentionRule:
    """scale: what products of query and key are multiplied by. window: positions a query sees,
    itself included; 0 for all. softcap: scores become softcap * tanh(score / softcap) (Gemma 2);
    0 for none.
    """

    scale: float
    window: int = 0
    softcap: float = 0.0


def attention_rule(spec: ModelSpec, layer: int) -> AttentionRule:
    """That of a layer."""
    return AttentionRule(
        scale=spec.attention_multiplier or 1 / math.sqrt(spec.head_dim),
        window=spec.sliding_window if spec.layer_type(layer) == SLIDING else 0,
        softcap=spec.attn_logit_softcapping,
    )
