"""What a config.json says about experts and latent attention. Raises SourceError on what this
version cannot run, SpecError on what contradicts itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from h2q.core.errors import SourceError
from h2q.core.expert_spec import MAX_MIXED_LAYERS, ExpertSpec
from h2q.core.latent_spec import LatentSpec
from h2q.core.specs import CLAMPED_LIMIT, CLAMPED_SLOPE

Config = Mapping[str, Any]
GPT_OSS_ROPE = {
    "rope_type": "yarn",
    "factor": 32.0,
    "original_max_position_embeddings": 4096,
    "truncate": False,
}
COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")  # as families call their number
LATENT_SIZES = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")


def mixtral(config: Config) -> ExpertSpec:
    """Softmax over the chosen is softmax over all, made to sum to one."""
    _require(config, ("num_local_experts", "num_experts_per_tok"))
    return ExpertSpec(
        num_experts=config["num_local_experts"],
        num_experts_per_tok=config["num_experts_per_tok"],
        moe_intermediate_size=config["intermediate_size"],
    )


def qwen3_moe(config: Config) -> ExpertSpec:
    """Layers without experts: those listed, and all but every decoder_sparse_step-th."""
    sizes = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob")
    _require(config, sizes)
    step = _count(config, "decoder_sparse_step", 1, low=1)
    listed = config.get("mlp_only_layers") or []
    if not isinstance(listed, list) or len(listed) > MAX_MIXED_LAYERS:
        raise SourceError("mlp_only_layers must be a short list of layers.")
    layers = _layers(config)
    return ExpertSpec(
        **{name: config[name] for name in sizes},
        mlp_only_layers=tuple(i for i in layers if i in listed or (i + 1) % step),
    )


def counted(config: Config) -> Config:
    """Transformers 5 writes the number of a qwen3_moe's experts as num_local_experts."""
    found, other = config.get("num_experts"), config.get("num_local_experts")
    if None not in (found, other) and found != other:
        raise SourceError("num_experts and num_local_experts differ.")
    return config if found is not None or other is None else {**config, "num_experts": other}


def qwen2_moe(config: Config) -> ExpertSpec:
    """As qwen3_moe, and one shared expert as wide as some of the others."""
    spec = qwen3_moe({"norm_topk_prob": False, **config})
    width = _count(config, "shared_expert_intermediate_size", 0, low=1)
    if width % spec.moe_intermediate_size:
        raise SourceError(
            f"The shared expert is {width} wide, which is not a multiple of the others' "
            f"{spec.moe_intermediate_size}."
        )
    return replace(spec, n_shared_experts=width // spec.moe_intermediate_size)


def gpt_oss(config: Config) -> dict[str, Any]:
    """Softmax over the chosen, as mixtral. What bends the gates has two numbers that no published
    model changes.
    """
    sizes = (
        ("swiglu_limit", CLAMPED_LIMIT),
        ("swiglu_alpha", CLAMPED_SLOPE),
        ("hidden_act", "silu"),
    )
    if bad := [name for name, value in sizes if config.get(name, value) != value]:
        raise SourceError(f"The config asks for what this version cannot run: {', '.join(bad)}.")
    biased = config.get("attention_bias", True)
    return {
        "experts": mixtral(config),
        "qkv_bias": biased,
        "o_bias": biased,
        "mlp_bias": True,
        "attention_sinks": True,
    }


def stretched_by_default(config: Config) -> Config:
    """gpt-oss's positions, where the config is silent."""
    if config.get("rope_scaling") or config.get("rope_parameters"):
        return config
    return {**config, "rope_scaling": GPT_OSS_ROPE}


def expanded(config: Config) -> Config:
    """Heads of latent attention as those of others: what they compare is their width."""
    _require(config, LATENT_SIZES)
    sizes = {name: config[name] for name in LATENT_SIZES}
    latent = LatentSpec(q_lora_rank=config.get("q_lora_rank"), **sizes)
    heads = {"num_key_value_heads": config["num_attention_heads"], "head_dim": latent.qk_head_dim}
    return {**config, **heads, "latent": latent}


def deepseek(config: Config) -> dict[str, Any]:
    """experts, latent and attention_multiplier, from a config that was `expanded`."""
    newer = config["model_type"] == "deepseek_v3"
    method = config.get("topk_method", "noaux_tc" if newer else "greedy")
    scores = config.get("scoring_func", "sigmoid" if newer else "softmax")
    normed = config.get("norm_topk_prob", newer)
    sizes = ("num_experts_per_tok", "moe_intermediate_size", "routed_scaling_factor")
    groups = ("n_group", "topk_group") if method != "greedy" else ()
    # Defaults of these differ by version.
    _require(config, ("n_routed_experts", "first_k_dense_replace", *sizes, *groups))
    found = {
        # DeepSeek-V2 scales or normalises, and no published model normalises.
        "norm_topk_prob": not newer and bool(normed),
        "topk_method": newer != (method == "noaux_tc"),
        "scoring_func": scores != ("sigmoid" if newer else "softmax"),
    }
    if bad := [name for name, present in found.items() if present]:
        raise SourceError(f"The config asks for what this version cannot run: {', '.join(bad)}.")
    first = _count(config, "first_k_dense_replace", 0)
    step = _count(config, "moe_layer_freq", 1, low=1)
    experts = ExpertSpec(
        num_experts=config["n_routed_experts"],
        **{name: config[name] for name in (*sizes, *groups)},
        scoring_func=scores,
        topk_method=method,
        norm_topk_prob=normed,
        n_shared_experts=config.get("n_shared_experts") or 0,
        mlp_only_layers=tuple(i for i in _layers(config) if i < first or i % step),
    )
    latent: LatentSpec = config["latent"]
    stretch = _stretched(config)
    return {
        "experts": experts,
        "latent": latent,
        **(
            {"attention_multiplier": stretch / math.sqrt(latent.qk_head_dim)} if stretch > 1 else {}
        ),
    }


def _stretched(config: Config) -> float:
    """What YaRN multiplies DeepSeek's scores by: the square of the temperature that mscale_all_dim
    asks for (Peng et al. 2023).
    """
    table = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(table, Mapping) or table.get("rope_type", table.get("type")) != "yarn":
        return 1.0
    share, factor = table.get("mscale_all_dim") or 0.0, table.get("factor")
    for value in (share, factor):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
            raise SourceError("mscale_all_dim or factor of rope_scaling is out of bounds.")
    return (0.1 * share * math.log(factor) + 1) ** 2 if factor > 1 else 1.0  # type: ignore[operator, arg-type]


def _layers(config: Config) -> range:
    layers = config["num_hidden_layers"]
    if isinstance(layers, bool) or not isinstance(layers, int):
        return range(0)  # ModelSpec says what is wrong with it
    return range(min(layers, MAX_MIXED_LAYERS))


def _count(config: Config, name: str, otherwise: int, low: int = 0) -> int:
    value = config.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise SourceError(f"{name} must be a whole number from {low}.")
    return value


def _require(config: Config, names: tuple[str, ...]) -> None:
    if missing := [name for name in names if name not in config]:
        raise SourceError(f"The config lacks {', '.join(missing)}.")
