"""A Hugging Face config.json as a ModelSpec. What this version cannot run is refused, never
ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from h2q.core.errors import SourceError, SpecError
from h2q.core.specs import ModelSpec
from h2q.sources.hf_experts import EXPERT_FAMILIES, read_experts, read_latent

FAMILIES = {name: name for name in ("llama", *EXPERT_FAMILIES)}
DEFAULT_THETA = 10_000.0  # where a config names none
DEFAULT_THETAS = {"mixtral": 1_000_000.0}
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)


def model_spec(config: Mapping[str, Any], stops: object, where: str) -> ModelSpec:
    """`stops`: eos_token_id of generation_config.json, or None. Raises SourceError."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise SourceError(
            f"The architecture {kind!r} is not known to this version.",
            where=where,
            fix=f"Supported: {', '.join(sorted(FAMILIES))}.",
        )
    _refuse_unsupported(config, where)
    if missing := [name for name in SIZES if name not in config]:
        raise SourceError(f"The config lacks {', '.join(missing)}.", where=where)
    heads, width = config["num_attention_heads"], config["hidden_size"]
    rope = config.get("rope_parameters")
    theta = config.get("rope_theta", rope.get("rope_theta") if isinstance(rope, dict) else None)
    try:
        experts, latent = read_experts(config, where), read_latent(config, where)
    except SpecError as error:
        raise SourceError(error.what, where=where, fix="The config contradicts itself.") from error
    head_dim = latent.qk_head_dim if latent else config.get("head_dim")
    if head_dim is None:
        sound = isinstance(heads, int) and isinstance(width, int) and heads > 0
        if not sound or width % heads:
            raise SourceError(f"Width {width!r} does not split into {heads!r} heads.", where=where)
        head_dim = width // heads
    try:
        return ModelSpec(
            family=FAMILIES[kind],
            **{name: config[name] for name in SIZES},
            num_key_value_heads=heads if latent else config.get("num_key_value_heads") or heads,
            head_dim=head_dim,
            max_position_embeddings=config.get("max_position_embeddings", 2048),
            rms_norm_eps=config.get("rms_norm_eps", 1e-6),
            rope_theta=DEFAULT_THETAS.get(kind, DEFAULT_THETA) if theta is None else theta,
            tie_word_embeddings=config.get("tie_word_embeddings", False),
            bos_token_id=config.get("bos_token_id"),
            eos_token_ids=_ids(config.get("eos_token_id"), stops),
            experts=experts,
            latent=latent,
        )
    except SpecError as error:
        raise SourceError(error.what, where=where, fix="The config contradicts itself.") from error


def _refuse_unsupported(config: Mapping[str, Any], where: str) -> None:
    rope = config.get("rope_parameters")
    scaling = config.get("rope_scaling") or (rope if isinstance(rope, dict) else None)
    kind = scaling.get("rope_type", scaling.get("type")) if isinstance(scaling, dict) else None
    found = {
        "attention_bias": bool(config.get("attention_bias")),
        "sliding_window": config["model_type"] == "mixtral" and bool(config.get("sliding_window")),
        "mlp_bias": bool(config.get("mlp_bias")),
        "rope_scaling": kind not in (None, "default"),
        "hidden_act": config.get("hidden_act", "silu") not in ("silu", "swish"),
    }
    if bad := [name for name, present in found.items() if present]:
        raise SourceError(
            f"The config asks for what this version cannot run: {', '.join(bad)}.", where=where
        )


def _ids(*values: object) -> tuple[int, ...]:
    """Token ids from numbers and lists, in order, once each; ModelSpec judges them."""
    out: list[Any] = []
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            if item is not None and item not in out:
                out.append(item)
    return tuple(out)
