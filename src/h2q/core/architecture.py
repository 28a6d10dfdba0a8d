"""Which tensors a model family has, in execution order, under their Hugging Face names.

The table serves three readers: `sources` checks shapes against it, `crystal` orders its shards by
it, `engine` binds weights by it. A new family is one function here and its one difference in
`engine`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from reprlib import repr as brief
from typing import Literal

from h2q.core.errors import SpecError
from h2q.core.specs import ModelSpec

Kind = Literal["embedding", "linear", "norm"]


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor. `reads` names the input it multiplies: tensors with one `reads` share one
    rotated input.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    reads: str = ""


def _llama(spec: ModelSpec) -> list[TensorSpec]:
    width, inner = spec.hidden_size, spec.intermediate_size
    queries = spec.num_attention_heads * spec.head_dim
    keys = spec.num_key_value_heads * spec.head_dim
    tensors = [
        TensorSpec("model.embed_tokens.weight", (spec.vocab_size, width), "embedding", "model.head")
    ]
    for index in range(spec.num_hidden_layers):
        layer = f"model.layers.{index}"
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        tensors += [
            TensorSpec(f"{layer}.input_layernorm.weight", (width,), "norm"),
            TensorSpec(f"{attention}.q_proj.weight", (queries, width), "linear", f"{attention}.in"),
            TensorSpec(f"{attention}.k_proj.weight", (keys, width), "linear", f"{attention}.in"),
            TensorSpec(f"{attention}.v_proj.weight", (keys, width), "linear", f"{attention}.in"),
            TensorSpec(
                f"{attention}.o_proj.weight", (width, queries), "linear", f"{attention}.out"
            ),
            TensorSpec(f"{layer}.post_attention_layernorm.weight", (width,), "norm"),
            TensorSpec(f"{mlp}.gate_proj.weight", (inner, width), "linear", f"{mlp}.in"),
            TensorSpec(f"{mlp}.up_proj.weight", (inner, width), "linear", f"{mlp}.in"),
            TensorSpec(f"{mlp}.down_proj.weight", (width, inner), "linear", f"{mlp}.out"),
        ]
    tensors.append(TensorSpec("model.norm.weight", (width,), "norm"))
    if not spec.tie_word_embeddings:
        tensors.append(
            TensorSpec("lm_head.weight", (spec.vocab_size, width), "linear", "model.head")
        )
    return tensors


FAMILIES: dict[str, Callable[[ModelSpec], list[TensorSpec]]] = {"llama": _llama}


def tensors(spec: ModelSpec) -> list[TensorSpec]:
    """Every tensor of the model, in the order the forward pass first needs it. Raises SpecError."""
    if not isinstance(spec.family, str) or spec.family not in FAMILIES:
        raise SpecError(
            f"The model family {brief(spec.family)} is not supported.",
            fix=f"Supported: {', '.join(sorted(FAMILIES))}.",
        )
    return FAMILIES[spec.family](spec)
