"""Any family as a GGUF file in float32, spelled as llama.cpp's converter spells it; written down
again so that a slip in the product shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from families import config_of, random_tensors, write_family
from gguf_files import NAMES, Words, add_sizes, add_words, in_pairs
from h2q.core.specs import ModelSpec
from h2q.sources import Source

GEMMA = {"query_pre_attn_scalar": 24}  # the width of a head: files do not say otherwise
# What a family's files can say, of configs in `families`.
SPELLED: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama3": {},
    "llama_linear": {},
    "qwen2": {"use_sliding_window": False},
    "qwen2_yarn": {},
    "qwen3": {},
    "gemma2": GEMMA,
    "gemma3": {**GEMMA, "num_hidden_layers": 6, "sliding_window_pattern": 6},
    "phi3": {},
    "phi4": {},
    "granite": {},
    "smollm3": {},
}
PAIRED = ("llama", "granite", "smollm3")
MORE_NAMES = {**NAMES, "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
SANDWICH = {
    **MORE_NAMES,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def write_family_gguf(folder: Path, name: str, words: Words) -> tuple[Source, Path]:
    """The Hugging Face folder of a family, opened, and the GGUF file of the same weights."""
    changes = {**SPELLED[name], "vocab_size": len(words.tokens)}
    source = write_family(folder / "hf", name, **changes)
    spec, path = source.spec, folder / f"{name}.gguf"
    writer = gguf.GGUFWriter(path, spec.family)
    _metadata(writer, spec, config_of(name, **changes))
    add_words(writer, words)
    stored = {file_name(n, spec): _rows(n, v, spec) for n, v in random_tensors(spec).items()}
    if spec.family == "phi3":
        stored = _joined(stored)
    for tensor, values in stored.items():
        writer.add_tensor(tensor, np.ascontiguousarray(values, np.float32))
    for tensor, numbers in _tables(spec, config_of(name)).items():
        writer.add_tensor(tensor, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return source, path


def file_name(name: str, spec: ModelSpec) -> str:
    head, _, end = name.rpartition(".")
    table = SANDWICH if spec.post_norms else MORE_NAMES
    if not head.startswith("model.layers."):
        return f"{table[head]}.{end}"
    _, _, index, part = head.split(".", 3)
    return f"blk.{index}.{table[part]}.{end}"


def _rows(name: str, values: np.ndarray, spec: ModelSpec) -> np.ndarray:
    if spec.family not in PAIRED:
        return values
    return in_pairs(name, values.reshape(len(values), -1), spec).reshape(values.shape)


def _joined(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    for name, values in stored.items():
        _, _, part = name.rpartition(".attn_")
        if part in ("q.weight", "k.weight", "v.weight"):
            key = name.replace(f"attn_{part}", "attn_qkv.weight")
        else:
            key = name.replace("ffn_gate", "ffn_up")
        out[key] = np.concatenate([out[key], values]) if key in out else values
    return out


def _metadata(writer: gguf.GGUFWriter, spec: ModelSpec, config: dict[str, Any]) -> None:
    add_sizes(writer, spec, config)
    writer.add_head_count_kv(spec.num_key_value_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    if spec.family.startswith("gemma") or spec.family == "phi3":
        writer.add_sliding_window(spec.sliding_window)
    if spec.family == "gemma2":
        writer.add_attn_logit_softcapping(spec.attn_logit_softcapping)
        writer.add_final_logit_softcapping(spec.final_logit_softcapping)
    if spec.family == "granite":
        writer.add_logit_scale(spec.logits_scaling)
        writer.add_residual_scale(spec.residual_multiplier)
        writer.add_embedding_scale(spec.embedding_multiplier)
        writer.add_attention_scale(spec.attention_multiplier)
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(scaling["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    if kind == "longrope":
        writer.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])
        writer.add_rope_scaling_attn_factors(spec.rope_scaling.attention_factor)


def _tables(spec: ModelSpec, config: dict[str, Any]) -> dict[str, np.ndarray]:
    scaling = config.get("rope_scaling") or {}
    if spec.family == "phi3" and scaling:
        return {
            f"rope_factors_{kind}.weight": np.array(scaling[f"{kind}_factor"], np.float32)
            for kind in ("long", "short")
        }
    if scaling.get("rope_type") != "llama3":
        return {}
    # Llama 3's scaling as a table of divisors, by the formula of its first implementation.
    low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    factors = []
    for index in range(spec.head_dim // 2):
        wave = 2 * np.pi * spec.rope_theta ** (2 * index / spec.head_dim)
        smooth = (low / wave * scaling["low_freq_factor"] - scaling["low_freq_factor"]) / (
            scaling["high_freq_factor"] - scaling["low_freq_factor"]
        )
        if wave < high:
            factors.append(1.0)
        elif wave > low:
            factors.append(scaling["factor"])
        else:
            factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return {"rope_freqs.weight": np.array(factors, np.float32)}
