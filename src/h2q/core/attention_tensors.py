"""Tensors of a layer's attention: heads with keys and values of their own, or through a latent."""

from __future__ import annotations

from h2q.core.latent_spec import LatentSpec
from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec, bias, linear, norm


def attention_tensors(spec: ModelSpec, index: int) -> list[TensorSpec]:
    """The attention of layer `index`, in the order it is used."""
    name = f"model.layers.{index}.self_attn"
    if spec.latent is not None:
        return _latent(spec, spec.latent, name)
    width, queries = spec.hidden_size, spec.num_attention_heads * spec.head_dim
    keys = spec.num_key_value_heads * spec.head_dim
    out = []
    for part, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        out.append(linear(f"{name}.{part}", rows, width, f"{name}.in"))
        if spec.qkv_bias:
            out.append(bias(f"{name}.{part}", rows))
    if spec.qk_norm:
        out += [norm(f"{name}.{part}", spec.head_dim) for part in ("q_norm", "k_norm")]
    if spec.attention_sinks:
        out.append(TensorSpec(sinks_name(name), (spec.num_attention_heads,), "raw"))
    # Behind a norm, outputs do not reach the stream as they are.
    out.append(linear(f"{name}.o_proj", width, queries, f"{name}.out", not spec.post_norms))
    if spec.o_bias:
        out.append(bias(f"{name}.o_proj", width))
    return out


def sinks_name(attention: str) -> str:
    """The scores, one for each head, that no value belongs to (Xiao et al. 2023)."""
    return f"{attention}.sinks"


def _latent(spec: ModelSpec, latent: LatentSpec, name: str) -> list[TensorSpec]:
    width, heads, rank = spec.hidden_size, spec.num_attention_heads, latent.kv_lora_rank
    queries = heads * latent.qk_head_dim
    expanded = heads * (latent.qk_nope_head_dim + latent.v_head_dim)
    out: list[TensorSpec] = []
    if latent.q_lora_rank is None:
        out.append(linear(f"{name}.q_proj", queries, width, f"{name}.in"))
    else:
        out.append(linear(f"{name}.q_a_proj", latent.q_lora_rank, width, f"{name}.in"))
    out.append(linear(f"{name}.kv_a_proj_with_mqa", latent.row, width, f"{name}.in"))
    if latent.q_lora_rank is not None:
        out += [
            norm(f"{name}.q_a_layernorm", latent.q_lora_rank),
            linear(f"{name}.q_b_proj", queries, latent.q_lora_rank, f"{name}.q_b.in"),
        ]
    return [
        *out,
        norm(f"{name}.kv_a_layernorm", rank),
        linear(f"{name}.kv_b_proj", expanded, rank, f"{name}.kv_b.in"),
        linear(f"{name}.o_proj", width, heads * latent.v_head_dim, f"{name}.out", True),
    ]
