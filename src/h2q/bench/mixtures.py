"""Shapes with experts, as their config.json has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from h2q.core.specs import ModelSpec
from h2q.sources.hf_config import model_spec

LITE: Mapping[str, Any] = {
    "model_type": "deepseek_v2",
    "vocab_size": 102_400,
    "hidden_size": 2048,
    "intermediate_size": 10_944,
    "moe_intermediate_size": 1408,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "n_shared_experts": 2,
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "topk_method": "greedy",
    "scoring_func": "softmax",
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "rope_scaling": {
        "type": "yarn",
        "factor": 40,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
    },
    "max_position_embeddings": 163_840,
    "tie_word_embeddings": False,
    "bos_token_id": 100_000,
    "eos_token_id": 100_001,
}
SMALL: Mapping[str, Any] = {
    **LITE,
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 16,
    "num_experts_per_tok": 3,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MIXTURES: Mapping[str, Mapping[str, Any]] = {"deepseek-v2-lite": LITE, "trial": SMALL}


def mixture(name: str) -> ModelSpec:
    """The description of a shape of MIXTURES."""
    return model_spec(MIXTURES[name], None, name)
