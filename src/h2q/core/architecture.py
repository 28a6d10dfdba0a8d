"""Which tensors a model family has, in execution order, under their Hugging Face names.

The table serves three readers: `sources` checks shapes against it, `crystal` orders its shards by
it, `engine` binds weights by it. A new family is a line here, its tensors in `attention_tensors` or
`mlp_tensors` where they differ, and its one difference in `engine`.

Matrices over the vocabulary are coded in tiers of rows. Tokenizers number frequent pieces first, so
a refinement of the first rows is worth far more per byte than one of the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from reprlib import repr as brief

from h2q.core.attention_tensors import attention_tensors
from h2q.core.errors import SpecError
from h2q.core.mlp_tensors import mlp_tensors
from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec, norm

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FINAL_NORM = "model.norm.weight"
HEAD_INPUT = "model.head"  # what matrices over the vocabulary read
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


FAMILIES = (
    "deepseek_v2",
    "deepseek_v3",
    "gemma2",
    "gemma3",
    "gpt_oss",
    "granite",
    "llama",
    "mistral",
    "mixtral",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "smollm3",
)
WITH_EXPERTS = ("deepseek_v2", "deepseek_v3", "gpt_oss", "mixtral", "qwen2_moe", "qwen3_moe")
WITH_LATENT = ("deepseek_v2", "deepseek_v3")


def tensors(spec: ModelSpec) -> list[TensorSpec]:
    """Every tensor of the model, in the order the forward pass first needs it. Raises SpecError."""
    if not isinstance(spec.family, str) or spec.family not in FAMILIES:
        raise SpecError(
            f"The model family {brief(spec.family)} is not supported.",
            fix=f"Supported: {', '.join(sorted(FAMILIES))}.",
        )
    for name, wanted in (("experts", WITH_EXPERTS), ("latent", WITH_LATENT)):
        if (getattr(spec, name) is not None) != (spec.family in wanted):
            holds = "lacks" if spec.family in wanted else "has"
            raise SpecError(f"The description of a {spec.family} model {holds} {name}.")
    width = spec.hidden_size
    out = [TensorSpec(EMBEDDING, (spec.vocab_size, width), "embedding", HEAD_INPUT)]
    for index in range(spec.num_hidden_layers):
        layer = f"model.layers.{index}"
        out.append(norm(f"{layer}.input_layernorm", width))
        out += attention_tensors(spec, index)
        out += [norm(f"{layer}.{name}", width) for name in norms_between(spec)]
        out += mlp_tensors(spec, index)
        if spec.post_norms:
            out.append(norm(f"{layer}.post_feedforward_layernorm", width))
    out.append(TensorSpec(FINAL_NORM, (width,), "norm"))
    if not spec.tie_word_embeddings:
        out.append(TensorSpec(HEAD, (spec.vocab_size, width), "linear", HEAD_INPUT))
    return out


def norms_between(spec: ModelSpec) -> tuple[str, ...]:
    """Norms of a layer between its attention and its MLP, the MLP's own last."""
    if spec.post_norms:
        return "post_attention_layernorm", "pre_feedforward_layernorm"
    return ("post_attention_layernorm",)


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
    return [part for t in tensors(spec) if t.coded for part in parts(t)]


def head_name(spec: ModelSpec) -> str:
    """The tensor that turns the last hidden state into logits."""
    return EMBEDDING if spec.tie_word_embeddings else HEAD
