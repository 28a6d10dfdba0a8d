"""What GGUF metadata say about experts and latent attention, as llama.cpp reads them. Raises
SourceError and SpecError.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from h2q.core.errors import SourceError
from h2q.core.expert_spec import MAX_MIXED_LAYERS, ExpertSpec
from h2q.core.latent_spec import LatentSpec
from h2q.core.rope import RopeScaling
from h2q.core.specs import CLAMPED, FULL, SLIDING
from h2q.sources.gguf_keys import Fields, Keys

COUNT, USED, INNER = "expert_count", "expert_used_count", "expert_feed_forward_length"
STRETCH = "rope.scaling.yarn_log_multiplier"
SCORES = {0: "softmax", 1: "softmax", 2: "sigmoid"}  # expert_gating_func; 0: the file is older


def mixtral(keys: Keys) -> Fields:
    """A llama file with experts."""
    return {"experts": _experts(keys, keys.needed("feed_forward_length"))}


def qwen2_moe(keys: Keys) -> Fields:
    """Scores are not made to sum to one; a shared expert as wide as some of the others."""
    experts = _experts(keys, _inner(keys), norm_topk_prob=False)
    inner = experts.moe_intermediate_size
    width = keys.integer("expert_shared_feed_forward_length", keys.needed("feed_forward_length"))
    if width < 1 or width % inner:
        raise SourceError(
            f"The shared expert is {width} wide, which is not a multiple of the others' {inner}.",
            where=keys.metadata.where,
        )
    return {"experts": replace(experts, n_shared_experts=width // inner)}


def qwen3_moe(keys: Keys) -> Fields:
    """Experts in every layer."""
    return {"qk_norm": True, "experts": _experts(keys, _inner(keys))}


def gpt_oss(keys: Keys) -> Fields:
    """Every second layer slides, the first does."""
    layers = range(min(keys.integer("block_count"), MAX_MIXED_LAYERS))
    return {
        "experts": _experts(keys, _inner(keys)),
        "hidden_act": CLAMPED,
        "mlp_bias": True,
        "attention_sinks": True,
        "sliding_window": keys.needed("attention.sliding_window"),
        "layer_types": tuple(FULL if index % 2 else SLIDING for index in layers),
    }


def whole_ramp(scaling: RopeScaling | None) -> RopeScaling | None:
    """gpt-oss's YaRN, whose ramp is not cut to whole dimensions; files do not say so."""
    return None if scaling is None else replace(scaling, truncate=scaling.rope_type != "yarn")


def deepseek(keys: Keys) -> Fields:
    """Files name heads as they look expanded (key_length_mla) and as one of the latent; older ones
    only expanded.
    """
    part = "_mla" if keys.present("attention.key_length_mla") else ""
    turned, compared = keys.needed("rope.dimension_count"), f"attention.key_length{part}"
    latent = LatentSpec(
        q_lora_rank=keys.integer("attention.q_lora_rank") or None,
        kv_lora_rank=keys.needed("attention.kv_lora_rank"),
        qk_nope_head_dim=keys.needed(compared) - turned,
        qk_rope_head_dim=turned,
        v_head_dim=keys.needed(f"attention.value_length{part}"),
    )
    first, layers = keys.needed("leading_dense_block_count"), keys.integer("block_count")
    corrected = f"blk.{first}.exp_probs_b.bias" in keys.names
    groups = max(keys.integer("expert_group_count"), 1)
    gating = keys.integer("expert_gating_func")
    if gating not in SCORES or first < 0:
        raise SourceError(
            "The metadata ask for what this version cannot run: expert_gating_func or "
            "leading_dense_block_count.",
            where=keys.metadata.where,
        )
    newer = corrected or SCORES[gating] == "sigmoid"
    grouped = "noaux_tc" if corrected else "group_limited_greedy" if groups > 1 else "greedy"
    experts = _experts(
        keys,
        keys.needed(INNER),
        norm_topk_prob=bool(keys.metadata.flag(f"{keys.kind}.expert_weights_norm")),
        scoring_func=SCORES[gating],
        topk_method=grouped,
        routed_scaling_factor=keys.number("expert_weights_scale", 1.0),
        n_shared_experts=keys.integer("expert_shared_count"),
        n_group=groups,
        topk_group=max(keys.integer("expert_group_used_count"), 1) if groups > 1 else 1,
        mlp_only_layers=tuple(range(min(first, max(layers, 0), MAX_MIXED_LAYERS))),
    )
    fields: Fields = {
        "family": "deepseek_v3" if newer else "deepseek_v2",
        "experts": experts,
        "latent": latent,
        "head_dim": latent.qk_head_dim,
        "num_key_value_heads": keys.needed("attention.head_count"),
    }
    stretch = _stretch(keys)
    if stretch != 1:
        fields["attention_multiplier"] = stretch**2 / math.sqrt(latent.qk_head_dim)
    return fields


def unturned(scaling: RopeScaling | None) -> RopeScaling | None:
    """DeepSeek's YaRN multiplies scores alone (see `deepseek`), not cosines and sines."""
    return None if scaling is None else replace(scaling, attention_factor=1.0)


def _stretch(keys: Keys) -> float:
    """What YaRN multiplies queries and keys by."""
    factor = keys.number("rope.scaling.factor", 1.0)
    if keys.metadata.text(f"{keys.kind}.rope.scaling.type") != "yarn" or not 1 < factor < 1e6:
        return 1.0
    attention = keys.number("rope.scaling.attn_factor", 1.0)
    return attention * (1 + keys.number(STRETCH) * math.log(factor))


def _experts(keys: Keys, inner: int, **more: Any) -> ExpertSpec:
    return ExpertSpec(
        num_experts=keys.needed(COUNT),
        num_experts_per_tok=keys.needed(USED),
        moe_intermediate_size=inner,
        **more,
    )


def _inner(keys: Keys) -> int:
    """Width of an expert; where the file is silent, all that a token uses are as wide as the
    model's MLP would be.
    """
    used = max(keys.needed(USED), 1)
    return keys.integer(INNER) or keys.needed("feed_forward_length") // used
