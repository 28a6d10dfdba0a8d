"""Tensors of a layer's attention: heads with keys and values of their own."""

from __future__ import annotations

from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec, bias, linear, norm


def attention_tensors(spec: ModelSpec, index: int) -> list[TensorSpec]:
    """The attention of layer `index`, in the order it is used."""
    name = f"model.layers.{index}.self_attn"
    width, queries = spec.hidden_size, spec.num_attention_heads * spec.head_dim
    keys = spec.num_key_value_heads * spec.head_dim
    out = []
    for part, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        out.append(linear(f"{name}.{part}", rows, width, f"{name}.in"))
        if spec.qkv_bias:
            out.append(bias(f"{name}.{part}", rows))
    if spec.qk_norm:
        out += [norm(f"{name}.{part}", spec.head_dim) for part in ("q_norm", "k_norm")]
    # Behind a norm, outputs do not reach the stream as they are.
    out.append(linear(f"{name}.o_proj", width, queries, f"{name}.out", not spec.post_norms))
    if spec.o_bias:
        out.append(bias(f"{name}.o_proj", width))
    return out
