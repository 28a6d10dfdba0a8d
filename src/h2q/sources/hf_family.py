"""What a family is to a config.json, and the guard against configs that ask for what it does not
have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from h2q.core.errors import SourceError
from h2q.core.specs import CLAMPED

Config = Mapping[str, Any]
Fields = dict[str, Any]
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_pytorch_tanh",
    "gelu_new": "gelu_pytorch_tanh",
}
# Keys that change the network of some family. Where a family does not read one, it must hold one of
# the values that change nothing.
GUARDED: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(
        (
            "attention_bias",
            "mlp_bias",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "use_bidirectional_attention",
            "sliding_window",
            "no_rope_layers",
            "num_experts",
            "num_local_experts",
            "n_routed_experts",
            "use_qk_norm",
            "qk_layernorm",
            "clip_qkv",
            "query_pre_attn_scalar",
            "attention_multiplier",
            "rope_local_base_freq",
        ),
        (None, False, 0),
    ),
    **dict.fromkeys(
        (
            "embedding_multiplier",
            "residual_multiplier",
            "logits_scaling",
            "logit_scale",
            "partial_rotary_factor",
        ),
        (None, 1),
    ),
}


@dataclass(frozen=True)
class Family:
    """name: in ModelSpec. read: fields of a ModelSpec from a config. reads: the guarded keys it
    understands. defaults: of the configuration class, where they are not llama's. theta, local:
    bases of rotary positions where the config is silent. prepare: what makes the config read as
    the others do.
    """

    name: str
    read: Callable[[Config], Fields]
    reads: tuple[str, ...] = ()
    defaults: Mapping[str, Any] | None = None
    theta: float = 10_000.0
    local: float = 0.0
    prepare: Callable[[Config], Config] | None = None


def refuse_unknown(config: Config, family: Family, where: str) -> None:
    """Raises SourceError where the config asks for what the family does not have."""
    found = [
        name
        for name, neutral in GUARDED.items()
        if name not in family.reads and config.get(name) not in neutral
    ]
    activation = _activation_name(config, family)
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        found.append("hidden_act")
    if found:
        raise SourceError(
            f"The config asks for what this version cannot run: {', '.join(found)}.", where=where
        )


def activation(config: Config, family: Family) -> str:
    """The name in ModelSpec of a config that was not refused."""
    if family.name == "gpt_oss":
        return CLAMPED
    return ACTIVATIONS[_activation_name(config, family)]


def _activation_name(config: Config, family: Family) -> Any:
    if family.name.startswith("gemma"):
        return config.get("hidden_activation") or "gelu_pytorch_tanh"
    return config.get("hidden_act", "silu")
