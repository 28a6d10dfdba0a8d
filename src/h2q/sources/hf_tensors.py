"""Where checkpoints store other tensors than the table asks for: Phi-3 joins q/k/v and gate/up,
Gemma's norms are stored as what they differ from one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from h2q.core.errors import SourceError, shown
from h2q.core.safetensors_header import ITEM_BYTES, TensorEntry
from h2q.core.specs import ModelSpec

Entries = dict[str, tuple[Path, TensorEntry]]
OFFSET_NORMS = ("gemma2", "gemma3")
FUSED = {  # the joined matrix, and what its rows are
    "self_attn.qkv_proj.weight": ("q_proj", "k_proj", "v_proj"),
    "mlp.gate_up_proj.weight": ("gate_proj", "up_proj"),
}


def split_joined(spec: ModelSpec, entries: Entries) -> Entries:
    """The same entries with joined matrices as their parts: rows follow each other in a file."""
    if spec.family != "phi3":
        return entries
    queries = spec.num_attention_heads * spec.head_dim
    keys = spec.num_key_value_heads * spec.head_dim
    inner = spec.intermediate_size
    rows = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "gate_proj": inner, "up_proj": inner}
    out: Entries = {}
    for name, (path, entry) in entries.items():
        found = next((end for end in FUSED if name.endswith(end)), None)
        if found is None or not _fits(entry, [rows[part] for part in FUSED[found]]):
            out[name] = path, entry
            continue
        begin, cols = entry.begin, entry.shape[1]
        room = name[: -len(found.split(".", 1)[1])]
        for part in FUSED[found]:
            end = begin + rows[part] * cols * ITEM_BYTES[entry.dtype]
            cut = replace(entry, shape=(rows[part], cols), begin=begin, end=end)
            out[f"{room}{part}.weight"] = path, cut
            begin = end
    return out


def _fits(entry: TensorEntry, rows: list[int]) -> bool:
    return (
        len(entry.shape) == 2
        and entry.shape[0] == sum(rows)
        and entry.dtype in ITEM_BYTES
        and entry.end - entry.begin == math.prod(entry.shape) * ITEM_BYTES[entry.dtype]
    )


def refuse_strangers(spec: ModelSpec, entries: Entries, known: set[str]) -> None:
    """Raises SourceError where the checkpoint holds a bias or a norm of a layer that the model
    would be run without. Layers behind the last, which only draft (DeepSeek-V3), are passed over.
    """
    for name, (path, _) in entries.items():
        if name in known or not name.startswith("model.layers."):
            continue
        index = name.split(".")[2]
        behind = index.isdecimal() and int(index[:9]) >= spec.num_hidden_layers
        if behind and spec.family == "deepseek_v3":
            continue
        if name.endswith((".bias", "norm.weight")):
            raise SourceError(
                f"The checkpoint holds {shown(name)}, which config.json does not ask for.",
                where=path.name,
                fix="config.json and weights do not belong together, or the family has changed.",
            )


def norm_offset(spec: ModelSpec, name: str) -> float:
    """What a stored tensor lacks to be the gain of a norm."""
    return 1.0 if spec.family in OFFSET_NORMS and name.endswith("norm.weight") else 0.0
