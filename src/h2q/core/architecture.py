"""Which tensors a model family has, in execution order, under their Hugging Face names.

The table serves three readers: `sources` checks shapes against it, `crystal` orders its shards by
it, `engine` binds weights by it. A new family is one function here and its one difference in
`engine`.

Matrices over the vocabulary are coded in tiers of rows. Tokenizers number frequent pieces first, so
a refinement of the first rows is worth far more per byte than one of the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from reprlib import repr as brief
from typing import Literal

from h2q.core.errors import SpecError
from h2q.core.specs import ModelSpec

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FINAL_NORM = "model.norm.weight"
HEAD_INPUT = "model.head"  # what matrices over the vocabulary read
Kind = Literal["embedding", "linear", "norm"]


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor. `reads` names the input it multiplies: tensors with one `reads` share one
    rotated input. `adds`: its output is added to the stream as it is.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    reads: str = ""
    adds: bool = False


TIER_ROWS = 256  # a tier ends on a multiple of this, the tallest panel of a plane
TIER_SHARES = (8, 4, 2, 1)  # tiers end at these parts of the vocabulary


@dataclass(frozen=True)
class Part:
    """Rows `begin` to `begin + shape[0]` of the matrix `tensor`: what is coded as one stack of
    planes. `name` is the tensor's own where the part is all of it, else the tensor's with
    `.rows.BEGIN`.
    """

    name: str
    tensor: TensorSpec
    begin: int
    shape: tuple[int, int]

    @property
    def rows(self) -> slice:
        """The part's rows of its tensor."""
        return slice(self.begin, self.begin + self.shape[0])


def _llama(spec: ModelSpec) -> list[TensorSpec]:
    width, inner = spec.hidden_size, spec.intermediate_size
    queries = spec.num_attention_heads * spec.head_dim
    keys = spec.num_key_value_heads * spec.head_dim
    tensors = [TensorSpec(EMBEDDING, (spec.vocab_size, width), "embedding", HEAD_INPUT)]
    for index in range(spec.num_hidden_layers):
        layer = f"model.layers.{index}"
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        tensors += [
            TensorSpec(f"{layer}.input_layernorm.weight", (width,), "norm"),
            TensorSpec(f"{attention}.q_proj.weight", (queries, width), "linear", f"{attention}.in"),
            TensorSpec(f"{attention}.k_proj.weight", (keys, width), "linear", f"{attention}.in"),
            TensorSpec(f"{attention}.v_proj.weight", (keys, width), "linear", f"{attention}.in"),
            TensorSpec(
                f"{attention}.o_proj.weight", (width, queries), "linear", f"{attention}.out", True
            ),
            TensorSpec(f"{layer}.post_attention_layernorm.weight", (width,), "norm"),
            TensorSpec(f"{mlp}.gate_proj.weight", (inner, width), "linear", f"{mlp}.in"),
            TensorSpec(f"{mlp}.up_proj.weight", (inner, width), "linear", f"{mlp}.in"),
            TensorSpec(f"{mlp}.down_proj.weight", (width, inner), "linear", f"{mlp}.out", True),
        ]
    tensors.append(TensorSpec(FINAL_NORM, (width,), "norm"))
    if not spec.tie_word_embeddings:
        tensors.append(TensorSpec(HEAD, (spec.vocab_size, width), "linear", HEAD_INPUT))
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


def parts(tensor: TensorSpec) -> list[Part]:
    """The parts a matrix is coded in, by rows: tiers of a matrix over the vocabulary, else one."""
    rows, cols = tensor.shape
    if tensor.reads != HEAD_INPUT:
        return [Part(tensor.name, tensor, 0, (rows, cols))]
    ends = sorted({min(rows, -(-rows // (s * TIER_ROWS)) * TIER_ROWS) for s in TIER_SHARES})
    begins = [0, *ends[:-1]]
    if len(ends) == 1:
        return [Part(tensor.name, tensor, 0, (rows, cols))]
    return [
        Part(f"{tensor.name}.rows.{begin}", tensor, begin, (end - begin, cols))
        for begin, end in zip(begins, ends, strict=True)
    ]


def coded(spec: ModelSpec) -> list[Part]:
    """Everything stored as planes, in execution order. Raises SpecError."""
    return [part for t in tensors(spec) if t.kind != "norm" for part in parts(t)]


def head_name(spec: ModelSpec) -> str:
    """The tensor that turns the last hidden state into logits."""
    return EMBEDDING if spec.tie_word_embeddings else HEAD
