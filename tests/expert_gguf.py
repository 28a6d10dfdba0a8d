"""Models with experts as GGUF files, spelled as llama.cpp's converter spells them; written down
again so that a slip in the product shows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants

from expert_configs import CONFIGS, YARN, draw_tensors, write_model
from gguf_files import NAMES, Words, add_sizes, add_words, in_pairs
from gpt_oss import stacked
from h2q.core.specs import ModelSpec
from h2q.sources import Source, open_source

ROPE = {k: v for k, v in YARN.items() if not k.startswith("beta")}  # files keep the usual betas
# What a family's files can say, of `expert_configs`.
SPELLED: dict[str, dict[str, Any]] = {
    "mixtral": {},
    "qwen2_moe": {"mlp_only_layers": []},
    "qwen3_moe": {"mlp_only_layers": []},
    "gpt_oss": {"rope_scaling": {**ROPE, "truncate": False}},
    "deepseek_v2_lite": {"rope_scaling": {**ROPE, "mscale": 0.707, "mscale_all_dim": 0.707}},
    "deepseek_v2": {},
    "deepseek_v3": {"rope_scaling": {**ROPE, "mscale": 1.0, "mscale_all_dim": 1.0}},
}
ARCHITECTURES = {
    "mixtral": "llama",
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
    "gpt_oss": "gpt-oss",
    "deepseek_v2": "deepseek2",
    "deepseek_v3": "deepseek2",
}
MORE_NAMES = {
    **NAMES,
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "mlp.gate": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp",
    "block_sparse_moe.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}
EXPERT = {"gate": "gate", "up": "up", "down": "down", "w1": "gate", "w3": "up", "w2": "down"}
Keys = dict[str, tuple[Any, gguf.GGUFValueType]]


def write_expert_gguf(
    folder: Path,
    name: str,
    words: Words,
    *,
    first_form: bool = False,
    blocks: bool = False,
    keys: Keys | None = None,
    change: Callable[[dict[str, np.ndarray]], None] | None = None,
    **changes: Any,
) -> tuple[Source, Path]:
    """The Hugging Face folder of a model, opened, and the GGUF file of the same weights.

    first_form: as the first converters wrote them (experts one by one, latents expanded). blocks:
    gpt-oss's experts as MXFP4. keys, change: other metadata, other tensors.
    """
    ids = {"bos_token_id": words.bos, "eos_token_id": words.eos}
    changes = {**SPELLED[name], **changes, **ids, "vocab_size": len(words.tokens)}
    source = open_source(write_model(folder / "hf", name, blocks=blocks, **changes))
    spec, path = source.spec, folder / f"{name}.gguf"
    writer = gguf.GGUFWriter(path, ARCHITECTURES[spec.family])
    config = {**CONFIGS[name][1], **changes}
    _metadata(writer, spec, config, first_form)
    add_words(writer, words)
    for key, (value, value_type) in (keys or {}).items():
        writer.kv_data[0].pop(key, None)
        writer.add_key_value(key, value, value_type)
    plain = draw_tensors(spec)
    if blocks:
        stacked(spec, plain, blocks=True)
    stored = _stored(spec, plain, first_form)
    if change is not None:
        change(stored)
    for tensor, values in stored.items():
        packed = blocks and tensor.endswith("_exps.weight")
        kind = Type.MXFP4 if packed else Type.F32
        whole = np.ascontiguousarray(values, np.float32)
        rows = quants.quantize(whole.reshape(-1, whole.shape[-1]), kind)
        rows = rows.reshape(*whole.shape[:-1], -1)
        writer.add_tensor(tensor, rows if packed else whole, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return source, path


def _metadata(
    writer: gguf.GGUFWriter, spec: ModelSpec, config: dict[str, Any], first_form: bool
) -> None:
    experts, latent = spec.experts, spec.latent
    assert experts is not None
    add_sizes(writer, spec, config)
    writer.add_expert_count(experts.num_experts)
    writer.add_expert_used_count(experts.num_experts_per_tok)
    if spec.family != "mixtral":
        writer.add_expert_feed_forward_length(experts.moe_intermediate_size)
    if spec.family == "qwen2_moe":
        writer.add_expert_shared_feed_forward_length(experts.shared_size)
    if spec.sliding_window:
        writer.add_sliding_window(spec.sliding_window)
    scaling = config.get("rope_scaling")
    if scaling:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    if latent is None:
        writer.add_head_count_kv(spec.num_key_value_heads)
        writer.add_key_length(spec.head_dim)
        writer.add_value_length(spec.head_dim)
        return
    if first_form:
        writer.add_head_count_kv(spec.num_attention_heads)
        writer.add_key_length(latent.qk_head_dim)
        writer.add_value_length(latent.v_head_dim)
    else:
        writer.add_head_count_kv(1)
        writer.add_key_length(latent.row)
        writer.add_value_length(latent.kv_lora_rank)
        writer.add_key_length_mla(latent.qk_head_dim)
        writer.add_value_length_mla(latent.v_head_dim)
    if latent.q_lora_rank:
        writer.add_q_lora_rank(latent.q_lora_rank)
    writer.add_kv_lora_rank(latent.kv_lora_rank)
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_expert_shared_count(experts.n_shared_experts)
    writer.add_expert_weights_scale(experts.routed_scaling_factor)
    writer.add_expert_weights_norm(experts.norm_topk_prob)
    kinds = gguf.ExpertGatingFuncType
    if not first_form:
        writer.add_expert_gating_func(kinds[experts.scoring_func.upper()])
    if experts.n_group > 1:
        writer.add_expert_group_count(experts.n_group)
        writer.add_expert_group_used_count(experts.topk_group)
    if scaling:
        writer.add_rope_scaling_yarn_log_mul(0.1 * scaling["mscale_all_dim"])


def _stored(
    spec: ModelSpec, plain: dict[str, np.ndarray], first_form: bool
) -> dict[str, np.ndarray]:
    """By name in the file."""
    out: dict[str, np.ndarray] = {}
    piles: dict[str, list[np.ndarray]] = {}
    for name, values in plain.items():
        head, _, end = name.rpartition(".")
        if not head.startswith("model.layers."):
            out[f"{MORE_NAMES[head]}.{end}"] = values
            continue
        _, _, index, part = head.split(".", 3)
        layer = f"blk.{index}"
        if ".experts." in part:
            _, expert, matrix = part.rsplit(".", 2)
            kind = EXPERT[matrix.removesuffix("_proj")]
            if first_form and spec.family == "mixtral":
                out[f"{layer}.ffn_{kind}.{expert}.{end}"] = values
            else:
                piles.setdefault(f"{layer}.ffn_{kind}_exps.{end}", []).append(values)
        elif part.rpartition(".")[0] in ("mlp.shared_expert", "mlp.shared_experts"):
            kind = part.rpartition(".")[2].removesuffix("_proj")
            out[f"{layer}.ffn_{kind}_shexp.{end}"] = values
        elif end == "sinks":
            out[f"{layer}.attn_sinks.weight"] = values
        elif end == "e_score_correction_bias":
            out[f"{layer}.exp_probs_b.bias"] = values
        elif part == "mlp.shared_expert_gate":
            out[f"{layer}.ffn_gate_inp_shexp.{end}"] = values[0]
        elif part == "post_attention_layernorm" and spec.family == "gpt_oss":
            out[f"{layer}.post_attention_norm.{end}"] = values
        elif part == "self_attn.kv_b_proj" and not first_form:
            heads = values.reshape(spec.num_attention_heads, -1, values.shape[1])
            nope = spec.latent.qk_nope_head_dim
            out[f"{layer}.attn_k_b.{end}"] = heads[:, :nope].transpose(0, 2, 1)
            out[f"{layer}.attn_v_b.{end}"] = heads[:, nope:]
        else:
            paired = spec.family == "mixtral"
            values = in_pairs(name, values, spec) if paired and values.ndim == 2 else values
            out[f"{layer}.{MORE_NAMES[part]}.{end}"] = values
    return {**out, **{name: np.stack(pile) for name, pile in piles.items()}}
