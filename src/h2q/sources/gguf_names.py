"""Names of the llama family's tensors in GGUF files, and the order of rows that differs there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from h2q.core.specs import ModelSpec

OUTPUT = "output.weight"
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": OUTPUT,
}
IN_LAYER = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
PAIRED = ("self_attn.q_proj.weight", "self_attn.k_proj.weight")


def gguf_name(name: str) -> str:
    """The GGUF name of a tensor with this Hugging Face name (of core.architecture)."""
    if name in WHOLE:
        return WHOLE[name]
    _, _, index, part = name.split(".", 3)
    return f"blk.{index}.{IN_LAYER[part]}"


def in_halves(
    name: str, weights: npt.NDArray[np.float32], spec: ModelSpec
) -> npt.NDArray[np.float32]:
    """Rows of the query and key projections in Hugging Face's order; every other tensor unchanged.

    GGUF files of this family hold the two rows that rotary positions turn together side by side in
    each head: (heads, head_dim / 2, 2). Hugging Face holds halves: (heads, 2, head_dim / 2).
    """
    if not name.endswith(PAIRED):
        return weights
    pairs = weights.reshape(-1, spec.head_dim // 2, 2, weights.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weights.shape)


def file_rows(name: str, rows: int, spec: ModelSpec) -> npt.NDArray[np.int64]:
    """Which of a tensor's rows each row of a GGUF file is: the inverse of in_halves, int64
    (rows,).
    """
    order = np.arange(rows, dtype=np.int64)
    if not name.endswith(PAIRED):
        return order
    return np.ascontiguousarray(order.reshape(-1, 2, spec.head_dim // 2).swapaxes(1, 2)).reshape(-1)
