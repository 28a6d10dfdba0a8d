"""Tiny models with random weights of every family, as Hugging Face folders: configs spelled as they
are published, tensors named and stored as the family stores them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints import WEIGHTS, Stored, write_stored
from h2q.core.architecture import tensors
from h2q.core.specs import ModelSpec
from h2q.sources import Source, open_source
from h2q.sources.hf_config import model_spec

SEED = Path(__file__).parent.parent / "src" / "h2q" / "assets" / "seed"
BASE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
GEMMA = {
    "head_dim": 24,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 32,
    "sliding_window": 12,
    "tie_word_embeddings": True,
}
FACTORS = [1.0 + 0.3 * index for index in range(8)]
SPECIAL: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama3": {
        "model_type": "llama",
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "llama_linear": {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4.0}},
    "mistral": {"model_type": "mistral", "sliding_window": 12, "head_dim": 24},
    "qwen2": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 12,
        "max_window_layers": 1,
        "tie_word_embeddings": True,
    },
    "qwen2_yarn": {
        "model_type": "qwen2",
        "use_sliding_window": False,
        "sliding_window": 12,
        "rope_scaling": {
            "type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 24},
    "gemma2": {
        "model_type": "gemma2",
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
        **GEMMA,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 3,
        "sliding_window_pattern": 3,
        "rope_theta": 1e6,
        "rope_local_base_freq": 10_000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        **GEMMA,
    },
    "phi3": {
        "model_type": "phi3",
        "sliding_window": 12,
        "original_max_position_embeddings": 64,
        "rope_scaling": {"type": "longrope", "short_factor": FACTORS, "long_factor": FACTORS[::-1]},
    },
    "phi4": {"model_type": "phi3", "partial_rotary_factor": 0.5, "sliding_window": None},
    "granite": {
        "model_type": "granite",
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.3,
        "attention_multiplier": 0.1,
        "logits_scaling": 2.0,
    },
    "smollm3": {"model_type": "smollm3", "num_hidden_layers": 4, "rope_theta": 5e6},
}
JOINED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def config_of(name: str, **changes: Any) -> dict[str, Any]:
    """A config.json."""
    return {**BASE, **SPECIAL[name], **changes}


def random_tensors(spec: ModelSpec) -> dict[str, np.ndarray]:
    """Float32 tensors as the engine asks for them. Queries and keys are loud enough for attention
    to choose.
    """
    draw = np.random.default_rng(7).standard_normal
    out = {}
    for tensor in tensors(spec):
        values = draw(tensor.shape, np.float32)
        if tensor.kind == "norm":
            values = 1 + np.float32(0.2) * values
        elif tensor.coded:
            loud = 2.0 if "q_proj" in tensor.name or "k_proj" in tensor.name else 1.0
            values *= np.float32(loud / np.sqrt(tensor.shape[-1]))
        else:
            values *= np.float32(0.2)
        out[tensor.name] = values
    return out


def stored_tensors(spec: ModelSpec) -> dict[str, np.ndarray]:
    """The same as the family's checkpoints hold them."""
    found = random_tensors(spec)
    if spec.family.startswith("gemma"):
        return {n: v - 1 if n.endswith("norm.weight") else v for n, v in found.items()}
    if spec.family != "phi3":
        return found
    out: dict[str, np.ndarray] = {}
    for name, values in found.items():
        room, _, end = name.removesuffix(".weight").rpartition(".")
        joined = next((j for j, parts in JOINED.items() if end in parts), None)
        if joined is None:
            out[name] = values
        else:
            key = f"{room}.{joined}.weight"
            out[key] = np.concatenate([out[key], values]) if key in out else values
    return out


def write_family(folder: Path, name: str, **changes: Any) -> Source:
    """An opened folder; `changes`: other values in config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SEED / "tokenizer.json", folder)
    config = config_of(name, **changes)
    (folder / "config.json").write_text(json.dumps(config))
    spec = model_spec(config, None, "config.json")
    stored = {n: Stored.floats(v) for n, v in stored_tensors(spec).items()}
    write_stored(folder / WEIGHTS, stored)
    return open_source(folder)
