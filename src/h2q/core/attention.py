"""How one layer's attention forms its scores: plain numbers, the same for every token."""

from __future__ import annotations

from dataclasses import dataclass

from h2q.core.specs import ModelSpec


@dataclass(frozen=True)
class AttentionRule:
    """scale: what products of query and key are multiplied by. window: positions a query sees,
    itself included; 0 for all. softcap: scores become softcap * tanh(score / softcap) (Gemma 2);
    0 for none.
    """

    scale: float
    window: int = 0
    softcap: float = 0.0


def cache_shape(spec: ModelSpec) -> tuple[int, int, int]:
    """(heads, width of a key, width of a value) that a cache keeps of a token in a layer. Through a
    latent it is one row for all heads, whose first kv_lora_rank entries are the value too.
    """
    if spec.latent is not None:
        return 1, spec.latent.row, spec.latent.kv_lora_rank
    return spec.num_key_value_heads, spec.head_dim, spec.head_dim
