"""The two frozen descriptions everything else speaks: a model (`ModelSpec`) and one coded plane
(`PlaneSpec`).

Hugging Face `config.json`, GGUF keys and `crystal.json` are spellings of a ModelSpec; field names
are Hugging Face's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from reprlib import repr as brief
from typing import Any

from h2q.core.bounds import require_flag, require_integer, require_number
from h2q.core.errors import SpecError, shown
from h2q.core.expert_spec import ExpertSpec
from h2q.core.latent_spec import LatentSpec
from h2q.core.rope import RopeScaling

# Limits are generous for any model published so far and small enough that no product of two
# overflows 63 bits.
MAX_VOCABULARY = 1 << 22
MAX_WIDTH = 1 << 17  # 127 * 127 * 2^17 still fits the int32 sums of the kernels
MAX_LAYERS = 1 << 12
MAX_HEADS = 1 << 12
MAX_CONTEXT = 1 << 28
MAX_FACTOR = 1e6
MAX_ALL_EXPERTS = 1 << 16  # four times those of the largest model published so far

FULL, SLIDING = "full_attention", "sliding_attention"
CLAMPED = "clamped_silu"
CLAMPED_SLOPE, CLAMPED_LIMIT = 1.702, 7.0
ACTIVATIONS = ("silu", "gelu_pytorch_tanh", CLAMPED)
# Fields that are descriptions of their own.
NESTED: dict[str, Any] = {"rope_scaling": RopeScaling, "experts": ExpertSpec, "latent": LatentSpec}
LISTS = ("eos_token_ids", "layer_types", "no_rope_layers")


@dataclass(frozen=True)
class ModelSpec:
    """Sizes and constants of one decoder-only transformer. Fields with a default are llama's where
    they keep it:

    rotary_dim: dimensions of a head that positions turn, 0 for all. rope_local_base_freq: base of
    the unscaled positions of sliding layers, 0 where they have those of the others. no_rope_layers:
    layers without positions. sliding_window: positions that sliding layers see; layer_types: which
    those are, all where empty. attention_multiplier: what scores are multiplied by, 0 for
    1 / sqrt(head_dim). Soft caps: 0 for none. Logits are divided by logits_scaling, then capped.
    residual_multiplier: what attention and MLP are multiplied by before they are added.
    post_norms: norms behind attention and MLP too, the MLP's own is then pre_feedforward_layernorm.
    qk_norm: every head's queries and keys are normalised before they are turned. attention_sinks:
    every head has a score that no value belongs to. mlp_bias: of every expert and router too.
    experts: some layers choose among MLPs. latent: attention goes through one short row per token;
    head_dim is then what a head compares, num_key_value_heads is num_attention_heads.

    Raises SpecError when a field is of the wrong type, out of bounds, or contradicts another.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    rope_scaling: RopeScaling | None = None
    rotary_dim: int = 0
    rope_local_base_freq: float = 0.0
    no_rope_layers: tuple[int, ...] = ()
    sliding_window: int = 0
    layer_types: tuple[str, ...] = ()
    attention_multiplier: float = 0.0
    attn_logit_softcapping: float = 0.0
    final_logit_softcapping: float = 0.0
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = 1.0
    hidden_act: str = "silu"
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    attention_sinks: bool = False
    post_norms: bool = False
    experts: ExpertSpec | None = None
    latent: LatentSpec | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("vocab_size", 1, MAX_VOCABULARY),
            ("hidden_size", 1, MAX_WIDTH),
            ("intermediate_size", 1, MAX_WIDTH),
            ("num_hidden_layers", 1, MAX_LAYERS),
            ("num_attention_heads", 1, MAX_HEADS),
            ("num_key_value_heads", 1, MAX_HEADS),
            ("head_dim", 2, MAX_WIDTH),
            ("max_position_embeddings", 1, MAX_CONTEXT),
            ("rotary_dim", 0, MAX_WIDTH),
            ("sliding_window", 0, MAX_CONTEXT),
        ):
            require_integer(name, getattr(self, name), low, high)
        require_number("rms_norm_eps", self.rms_norm_eps, 0.0, 1.0)
        require_number("rope_theta", self.rope_theta, 1.0, 1e12)
        for name in ("embedding_multiplier", "residual_multiplier", "logits_scaling"):
            require_number(name, getattr(self, name), 0.0, MAX_FACTOR)
        for name in (
            "rope_local_base_freq",
            "attention_multiplier",
            "attn_logit_softcapping",
            "final_logit_softcapping",
        ):
            if getattr(self, name) != 0 or isinstance(getattr(self, name), bool):
                base = name == "rope_local_base_freq"
                require_number(name, getattr(self, name), float(base), 1e12 if base else MAX_FACTOR)
        for name in (
            "tie_word_embeddings",
            "qkv_bias",
            "o_bias",
            "mlp_bias",
            "qk_norm",
            "attention_sinks",
            "post_norms",
        ):
            require_flag(name, getattr(self, name))
        self._require_attention()
        self._require_layers()
        self._require_parts()
        stops = (
            self.eos_token_ids
            if self.bos_token_id is None
            else (*self.eos_token_ids, self.bos_token_id)
        )
        for token in stops:
            if (
                isinstance(token, bool)
                or not isinstance(token, int)
                or not 0 <= token < self.vocab_size
            ):
                raise SpecError(
                    f"Special token {brief(token)} lies outside the vocabulary of "
                    f"{self.vocab_size:,}."
                )

    def _require_attention(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise SpecError(
                f"{self.num_attention_heads} attention heads cannot share "
                f"{self.num_key_value_heads} key-value heads evenly."
            )
        for name, size in (("head_dim", self.head_dim), ("rotary_dim", self.rotary_dim)):
            if size % 2:
                raise SpecError(f"{name} must be even for rotary positions, not {size}.")
        if self.rotary_dim > self.head_dim:
            raise SpecError(f"rotary_dim exceeds the width of a head, {self.head_dim}.")
        if self.num_attention_heads * self.head_dim > MAX_WIDTH:
            raise SpecError(f"The attention width exceeds {MAX_WIDTH:,}.")
        scaling = self.rope_scaling
        if scaling is None:
            return
        if not isinstance(scaling, RopeScaling):
            raise SpecError("rope_scaling must be a RopeScaling.")
        if scaling.factors and len(scaling.factors) != self.rope_dim // 2:
            raise SpecError(
                f"rope_scaling has {len(scaling.factors)} factors for {self.rope_dim // 2} "
                "frequencies."
            )

    def _require_layers(self) -> None:
        if not isinstance(self.hidden_act, str) or self.hidden_act not in ACTIVATIONS:
            raise SpecError(
                f"hidden_act must be {' or '.join(ACTIVATIONS)}, not {brief(self.hidden_act)}."
            )
        types, count = self.layer_types, self.num_hidden_layers
        if not isinstance(types, tuple) or len(types) not in (0, count):
            raise SpecError("layer_types must name the type of every layer.")
        if any(not isinstance(kind, str) or kind not in (FULL, SLIDING) for kind in types):
            raise SpecError(f"A layer's type must be {FULL} or {SLIDING}.")
        if SLIDING in types and not self.sliding_window:
            raise SpecError("A layer slides, but there is no sliding_window.")
        bare = self.no_rope_layers
        if not isinstance(bare, tuple) or len(bare) > count:
            raise SpecError("no_rope_layers must be a list of layers.")
        for layer in bare:
            require_integer("A layer of no_rope_layers", layer, 0, count - 1)

    def _require_parts(self) -> None:
        experts, latent = self.experts, self.latent
        if experts is not None:
            if not isinstance(experts, ExpertSpec):
                raise SpecError("experts must be an ExpertSpec.")
            if experts.mlp_only_layers and experts.mlp_only_layers[-1] >= self.num_hidden_layers:
                raise SpecError("mlp_only_layers names a layer that is not there.")
            if experts.num_experts * self.num_hidden_layers > MAX_ALL_EXPERTS:
                raise SpecError(f"All layers together have more than {MAX_ALL_EXPERTS:,} experts.")
        alike = experts is not None and not experts.mlp_only_layers and not experts.shared_size
        if self.hidden_act == CLAMPED and not alike:
            raise SpecError(f"Only models whose every MLP is an expert have {CLAMPED}.")
        if latent is not None:
            if not isinstance(latent, LatentSpec):
                raise SpecError("latent must be a LatentSpec.")
            if self.head_dim != latent.qk_head_dim:
                raise SpecError(
                    f"head_dim is {self.head_dim}, but a head compares {latent.qk_head_dim}."
                )
            if self.num_key_value_heads != self.num_attention_heads:
                raise SpecError("Heads of latent attention have keys of their own.")
            wide = self.num_attention_heads * (latent.qk_nope_head_dim + latent.v_head_dim)
            if max(wide, latent.row) > MAX_WIDTH:
                raise SpecError(f"The latent's expansion exceeds {MAX_WIDTH:,}.")
            others = self.qkv_bias or self.o_bias or self.qk_norm or self.attention_sinks
            if self.rotary_dim or others:
                raise SpecError("Latent attention has no biases, head norms, sinks or rotary_dim.")

    @property
    def rope_dim(self) -> int:
        """Dimensions of a head that are turned by its position."""
        if self.latent is not None:
            return self.latent.qk_rope_head_dim
        return self.rotary_dim or self.head_dim

    def layer_type(self, layer: int) -> str:
        """FULL or SLIDING."""
        if self.layer_types:
            return self.layer_types[layer]
        return SLIDING if self.sliding_window else FULL

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, field by field; what a llama has not is left out."""
        out: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in OPTIONAL and value == field.default:
                continue
            if field.name in NESTED:
                value = value.to_json()
            out[field.name] = list(value) if field.name in LISTS else value
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelSpec:
        """The inverse of to_json; unknown and missing fields are errors."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise SpecError(f"Unknown model fields: {', '.join(map(shown, unknown[:8]))}.")
        required = known - OPTIONAL - {"bos_token_id", "eos_token_ids"}
        if missing := sorted(required - set(data)):
            raise SpecError(f"Missing model fields: {', '.join(missing)}.")
        read = dict(data)
        for name in LISTS:
            if not isinstance(listed := data.get(name, []), (list, tuple)):
                raise SpecError(f"{name} must be a list.")
            read[name] = tuple(listed)
        nested = {name: kind.from_json(data[name]) for name, kind in NESTED.items() if name in data}
        return cls(**{**read, **nested})


OPTIONAL = frozenset(
    field.name
    for field in fields(ModelSpec)
    if field.default is not MISSING and field.name not in ("bos_token_id", "eos_token_ids")
)


@dataclass(frozen=True)
class PlaneSpec:
    """One coded plane of a matrix: `bits` per weight (1 or 2), logical shape `rows` x `cols`.

    The byte layout follows from these three numbers (`h2q.codec.layout`, docs/format.md).
    """

    bits: int
    rows: int
    cols: int

    def __post_init__(self) -> None:
        if self.bits not in (1, 2):
            raise SpecError(f"A plane has 1 or 2 bits per weight, not {self.bits!r}.")
        for name, value, high in (
            ("rows", self.rows, MAX_VOCABULARY),
            ("cols", self.cols, MAX_WIDTH),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
                raise SpecError(
                    f"Plane {name} must be a whole number from 1 to {high:,}, not {brief(value)}."
                )
