"""Configurations of tiny models with experts, every switch of their families somewhere on, and
weights drawn from a seed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints import Stored, write_stored
from gpt_oss import stacked
from h2q.core.architecture import tensors
from h2q.core.specs import ModelSpec
from h2q.sources.hf_config import model_spec

SEED_MODEL = Path(__file__).parents[1] / "src" / "h2q" / "assets" / "seed"
SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
LATENT: dict[str, Any] = {
    **SMALL,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 24,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 20,
    "q_lora_rank": None,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
}
YARN: dict[str, Any] = {
    "type": "yarn",
    "factor": 8.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 4,
    "beta_slow": 1,
}
LOUD = (".sinks", "gate_proj.weight", "up_proj.weight")  # of gpt-oss
# Name: (model_type, fields of its config.json).
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("mixtral", {**SMALL, "num_local_experts": 5, "num_experts_per_tok": 2}),
    "qwen2_moe": (
        "qwen2_moe",
        {
            **SMALL,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 20,
            "shared_expert_intermediate_size": 40,
            "norm_topk_prob": False,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [1],
            "use_sliding_window": False,
        },
    ),
    "qwen3_moe": (
        "qwen3_moe",
        {
            **SMALL,
            "head_dim": 12,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 20,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [1],
        },
    ),
    "qwen3_moe_plain": (
        "qwen3_moe",
        {
            **SMALL,
            "head_dim": 8,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 20,
            "norm_topk_prob": False,
            "decoder_sparse_step": 2,
        },
    ),
    "gpt_oss": (
        "gpt_oss",
        {
            **SMALL,
            "head_dim": 12,
            "intermediate_size": 64,
            "num_local_experts": 6,
            "num_experts_per_tok": 3,
            "sliding_window": 12,
            "rope_scaling": {**YARN, "truncate": False},
            "swiglu_limit": 7.0,
        },
    ),
    "deepseek_v2_lite": (
        "deepseek_v2",
        {
            **LATENT,
            "n_shared_experts": 2,
            "topk_method": "greedy",
            "routed_scaling_factor": 1.0,
            "rope_scaling": {**YARN, "mscale": 0.707, "mscale_all_dim": 0.707},
        },
    ),
    "deepseek_v2": (
        "deepseek_v2",
        {
            **LATENT,
            "q_lora_rank": 16,
            "n_shared_experts": 1,
            "topk_method": "group_limited_greedy",
            "n_group": 4,
            "topk_group": 2,
            "routed_scaling_factor": 16.0,
        },
    ),
    "deepseek_v3": (
        "deepseek_v3",
        {
            **LATENT,
            "q_lora_rank": 16,
            "n_shared_experts": 1,
            "topk_method": "noaux_tc",
            "scoring_func": "sigmoid",
            "n_group": 4,
            "topk_group": 2,
            "norm_topk_prob": True,
            "routed_scaling_factor": 2.5,
            "rope_scaling": {**YARN, "mscale": 1.2, "mscale_all_dim": 1.0},
        },
    ),
}


def write_model(
    folder: Path, name: str, seed: int = 3, blocks: bool = False, **changes: object
) -> Path:
    """A Hugging Face folder of one of CONFIGS: every tensor drawn, gains and corrections too, so
    that each of them is felt; the seed model's tokenizer. `blocks`: gpt-oss's experts as MXFP4.
    """
    kind, fields = CONFIGS[name]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SEED_MODEL / "tokenizer.json", folder)
    config = {"model_type": kind, "rms_norm_eps": 1e-6, **fields, **changes}
    if blocks:
        config["quantization_config"] = {"quant_method": "mxfp4"}
    (folder / "config.json").write_text(json.dumps(config))
    spec = model_spec(config, None, "config.json")
    plain = draw_tensors(spec, seed)
    stored = {n: Stored.floats(v) for n, v in plain.items()}
    if kind == "gpt_oss":
        stored = stacked(spec, plain, blocks)
    write_stored(folder / "model.safetensors", stored)
    return folder


def draw_tensors(spec: ModelSpec, seed: int = 3) -> dict[str, np.ndarray]:
    """Every tensor as the engine asks for it. Gates and ups of gpt-oss are loud enough to be
    clamped.
    """
    draw = np.random.default_rng(seed)
    drawn = {}
    for tensor in tensors(spec):
        values = draw.standard_normal(tensor.shape)
        if tensor.kind == "norm":
            values = 1 + 0.2 * values
        elif tensor.kind == "raw":
            values *= 0.1 if values.ndim == 1 else 3 / np.sqrt(tensor.shape[-1])
        else:
            values *= 0.15
        if spec.family == "gpt_oss" and tensor.name.endswith(
            (".sinks", "gate_proj.weight", "up_proj.weight")
        ):
            values *= 5
        drawn[tensor.name] = values.astype(np.float32)
    return drawn
