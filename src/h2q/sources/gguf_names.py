"""Names of tensors in GGUF files, and what is stored otherwise there: the order of rows, joined
matrices.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from h2q.core.mlp_tensors import expert_names, is_expert
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
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "self_attn.sinks": "attn_sinks.weight",
    "self_attn.q_a_proj.weight": "attn_q_a.weight",
    "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
    "self_attn.q_b_proj.weight": "attn_q_b.weight",
    "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
    "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
    "self_attn.kv_b_proj.weight": "attn_kv_b.weight",
}
IN_SANDWICH = {  # where attention and MLP have norms behind them
    "post_attention_layernorm.weight": "post_attention_norm.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
}
PAIRED = ("self_attn.q_proj", "self_attn.k_proj")
PAIRED_FAMILIES = ("llama", "granite", "mixtral", "smollm3")
JOINED = {  # Phi-3: where the rows of a matrix begin in another
    "self_attn.q_proj.weight": ("attn_qkv.weight", ()),
    "self_attn.k_proj.weight": ("attn_qkv.weight", ("q",)),
    "self_attn.v_proj.weight": ("attn_qkv.weight", ("q", "k")),
    "mlp.gate_proj.weight": ("ffn_up.weight", ()),
    "mlp.up_proj.weight": ("ffn_up.weight", ("gate",)),
}


def gguf_name(name: str, spec: ModelSpec | None = None) -> str:
    """The GGUF name of a tensor with this Hugging Face name (of core.architecture), of a llama
    where no other spec is given.
    """
    if name in WHOLE:
        return WHOLE[name]
    _, _, index, part = name.split(".", 3)
    if spec is not None and spec.post_norms and part in IN_SANDWICH:
        return f"blk.{index}.{IN_SANDWICH[part]}"
    if spec is not None and (mixed := _in_mixture(part, spec)):
        return f"blk.{index}.{mixed}"
    weight = part.removesuffix(".bias") + ".weight" if part.endswith(".bias") else part
    found = IN_LAYER[weight]
    return f"blk.{index}.{found if weight == part else found.removesuffix('weight') + 'bias'}"


def _in_mixture(part: str, spec: ModelSpec) -> str:
    """The name in a layer of what belongs to experts, an expert's that of all; "" of all else."""
    if spec.family == "gpt_oss" and part == "post_attention_layernorm.weight":
        return "post_attention_norm.weight"
    names = expert_names(spec)
    if spec.experts is None or not part.startswith(f"{names.room}."):
        return ""
    inside, _, end = part.removeprefix(f"{names.room}.").rpartition(".")
    if inside == "gate" and end == "e_score_correction_bias":
        return "exp_probs_b.bias"
    owner = inside.rpartition(".")[0]
    kinds = {
        names.router: "ffn_gate_inp",
        names.shared_gate: "ffn_gate_inp_shexp",
        f"{names.shared}.gate_proj": "ffn_gate_shexp",
        f"{names.shared}.up_proj": "ffn_up_shexp",
        f"{names.shared}.down_proj": "ffn_down_shexp",
    }
    if owner.startswith("experts."):
        kinds = {
            f"{owner}.{names.gate}": "ffn_gate_exps",
            f"{owner}.{names.up}": "ffn_up_exps",
            f"{owner}.{names.down}": "ffn_down_exps",
        }
    return f"{kinds[inside]}.{end}" if inside in kinds else ""


def expert_of(name: str) -> int | None:
    """Which expert of its layer a tensor belongs to, None for what is no expert's."""
    return int(name.split(".experts.")[1].split(".")[0]) if is_expert(name) else None


def joined(name: str, spec: ModelSpec) -> tuple[str, int, int] | None:
    """For a matrix that the file holds as rows of another: that one's GGUF name, the first row, and
    how many rows it has.
    """
    if spec.family != "phi3" or name in WHOLE:
        return None
    _, _, index, part = name.split(".", 3)
    if part not in JOINED:
        return None
    keys = spec.num_key_value_heads * spec.head_dim
    sizes = {
        "q": spec.num_attention_heads * spec.head_dim,
        "k": keys,
        "gate": spec.intermediate_size,
    }
    file_name, before = JOINED[part]
    whole = sizes["q"] + 2 * keys if file_name == "attn_qkv.weight" else 2 * sizes["gate"]
    return f"blk.{index}.{file_name}", sum(sizes[size] for size in before), whole


def _paired(name: str, spec: ModelSpec) -> bool:
    return spec.family in PAIRED_FAMILIES and name.rpartition(".")[0].endswith(PAIRED)


def in_halves(
    name: str, weights: npt.NDArray[np.float32], spec: ModelSpec
) -> npt.NDArray[np.float32]:
    """Rows of the query and key projections in Hugging Face's order; every other tensor unchanged.

    GGUF files of llamas hold the two rows that rotary positions turn together side by side in
    each head: (heads, head_dim / 2, 2). Hugging Face holds halves: (heads, 2, head_dim / 2).
    """
    if not _paired(name, spec):
        return weights
    pairs = weights.reshape(-1, spec.head_dim // 2, 2, *weights.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weights.shape)


def file_rows(name: str, rows: int, spec: ModelSpec) -> npt.NDArray[np.int64]:
    """Which of a tensor's rows each row of a GGUF file is: the inverse of in_halves, int64
    (rows,).
    """
    order = np.arange(rows, dtype=np.int64)
    if not _paired(name, spec):
        return order
    return np.ascontiguousarray(order.reshape(-1, 2, spec.head_dim // 2).swapaxes(1, 2)).reshape(-1)
