"""What a config.json says about experts and latent attention. Raises SourceError on what this
version cannot run, SpecError on what contradicts itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from h2q.core.errors import SourceError
from h2q.core.expert_spec import MAX_MIXED_LAYERS, ExpertSpec
from h2q.core.latent_spec import LatentSpec

EXPERT_FAMILIES = ("mixtral", "deepseek_v2", "deepseek_v3")
LATENT_FAMILIES = ("deepseek_v2", "deepseek_v3")
LATENT_SIZES = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")


def read_experts(config: Mapping[str, Any], where: str) -> ExpertSpec | None:
    """None for a family without experts."""
    kind = config["model_type"]
    if kind not in EXPERT_FAMILIES:
        return None
    if kind == "mixtral":
        _require(config, ("num_local_experts", "num_experts_per_tok"), where)
        return ExpertSpec(
            num_experts=config["num_local_experts"],
            num_experts_per_tok=config["num_experts_per_tok"],
            moe_intermediate_size=config["intermediate_size"],
        )
    return _deepseek(config, kind, where)


def _deepseek(config: Mapping[str, Any], kind: str, where: str) -> ExpertSpec:
    sizes = ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")
    newer = kind == "deepseek_v3"
    method = config.get("topk_method", "noaux_tc" if newer else "greedy")
    grouped = ("n_group", "topk_group") if method != "greedy" else ()
    others = ("first_k_dense_replace", "routed_scaling_factor")  # defaults differ by version
    _require(config, (*sizes, *others, *grouped), where)
    scores = config.get("scoring_func", "sigmoid" if newer else "softmax")
    normed = config.get("norm_topk_prob", newer)
    found = {
        # DeepSeek-V2 scales or normalises, and no published model normalises.
        "norm_topk_prob": not newer and bool(normed),
        "topk_method": newer != (method == "noaux_tc"),
        "scoring_func": scores != ("sigmoid" if newer else "softmax"),
    }
    if bad := [name for name, present in found.items() if present]:
        raise SourceError(
            f"The config asks for what this version cannot run: {', '.join(bad)}.", where=where
        )
    return ExpertSpec(
        num_experts=config["n_routed_experts"],
        num_experts_per_tok=config["num_experts_per_tok"],
        moe_intermediate_size=config["moe_intermediate_size"],
        scoring_func=scores,
        topk_method=method,
        norm_topk_prob=normed,
        routed_scaling_factor=config["routed_scaling_factor"],
        n_shared_experts=config.get("n_shared_experts") or 0,
        n_group=config["n_group"] if grouped else 1,
        topk_group=config["topk_group"] if grouped else 1,
        mlp_only_layers=_dense_layers(config, where),
    )


def _dense_layers(config: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """Layers before first_k_dense_replace, and those that moe_layer_freq passes over."""
    layers, first = config.get("num_hidden_layers"), config["first_k_dense_replace"]
    step = config.get("moe_layer_freq", 1)
    for name, value, low in (("first_k_dense_replace", first, 0), ("moe_layer_freq", step, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise SourceError(f"{name} must be a whole number from {low}.", where=where)
    if not isinstance(layers, int):
        return ()  # ModelSpec says what is wrong with it
    count = range(min(layers, MAX_MIXED_LAYERS))
    return tuple(index for index in count if index < first or index % step)


def read_latent(config: Mapping[str, Any], where: str) -> LatentSpec | None:
    """None for a family with keys and values of their own."""
    if config["model_type"] not in LATENT_FAMILIES:
        return None
    _require(config, LATENT_SIZES, where)
    sizes = {name: config[name] for name in LATENT_SIZES}
    return LatentSpec(q_lora_rank=config.get("q_lora_rank"), **sizes)


def _require(config: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    if missing := [name for name in names if name not in config]:
        raise SourceError(f"The config lacks {', '.join(missing)}.", where=where)
