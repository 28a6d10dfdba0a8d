"""The two frozen descriptions everything else speaks: a model (`ModelSpec`) and one coded plane
(`PlaneSpec`).

Hugging Face `config.json`, GGUF keys and `crystal.json` are spellings of a ModelSpec; field names
are Hugging Face's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from reprlib import repr as brief
from typing import Any

from h2q.core.bounds import require_flag, require_integer, require_number
from h2q.core.errors import SpecError, shown
from h2q.core.expert_spec import ExpertSpec
from h2q.core.latent_spec import LatentSpec

# Limits are generous for any model published so far and small enough that no product of two
# overflows 63 bits.
MAX_VOCABULARY = 1 << 22
MAX_WIDTH = 1 << 17  # 127 * 127 * 2^17 still fits the int32 sums of the kernels
MAX_LAYERS = 1 << 12
MAX_HEADS = 1 << 12
MAX_CONTEXT = 1 << 28
MAX_ALL_EXPERTS = 1 << 16  # four times those of the largest model published so far

NESTED: dict[str, Any] = {"experts": ExpertSpec, "latent": LatentSpec}


@dataclass(frozen=True)
class ModelSpec:
    """Sizes and constants of one decoder-only transformer. `experts`: some layers choose among
    MLPs; `latent`: attention goes through one short row per token, head_dim is then what a head
    compares and num_key_value_heads is num_attention_heads.

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
    experts: ExpertSpec | None = None
    latent: LatentSpec | None = None

    def __post_init__(self) -> None:
        require_integer("vocab_size", self.vocab_size, 1, MAX_VOCABULARY)
        require_integer("hidden_size", self.hidden_size, 1, MAX_WIDTH)
        require_integer("intermediate_size", self.intermediate_size, 1, MAX_WIDTH)
        require_integer("num_hidden_layers", self.num_hidden_layers, 1, MAX_LAYERS)
        require_integer("num_attention_heads", self.num_attention_heads, 1, MAX_HEADS)
        require_integer("num_key_value_heads", self.num_key_value_heads, 1, MAX_HEADS)
        require_integer("head_dim", self.head_dim, 2, MAX_WIDTH)
        require_integer("max_position_embeddings", self.max_position_embeddings, 1, MAX_CONTEXT)
        require_number("rms_norm_eps", self.rms_norm_eps, 0.0, 1.0)
        require_number("rope_theta", self.rope_theta, 1.0, 1e12)
        require_flag("tie_word_embeddings", self.tie_word_embeddings)
        if self.num_attention_heads % self.num_key_value_heads:
            raise SpecError(
                f"{self.num_attention_heads} attention heads cannot share "
                f"{self.num_key_value_heads} key-value heads evenly."
            )
        if self.head_dim % 2:
            raise SpecError(f"head_dim must be even for rotary positions, not {self.head_dim}.")
        if self.num_attention_heads * self.head_dim > MAX_WIDTH:
            raise SpecError(f"The attention width exceeds {MAX_WIDTH:,}.")
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

    def _require_parts(self) -> None:
        """Nested descriptions agree with the rest."""
        experts, latent = self.experts, self.latent
        if experts is not None:
            if not isinstance(experts, ExpertSpec):
                raise SpecError("experts must be an ExpertSpec.")
            if experts.mlp_only_layers and experts.mlp_only_layers[-1] >= self.num_hidden_layers:
                raise SpecError("mlp_only_layers names a layer that is not there.")
            if experts.num_experts * self.num_hidden_layers > MAX_ALL_EXPERTS:
                raise SpecError(f"All layers together have more than {MAX_ALL_EXPERTS:,} experts.")
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

    @property
    def rope_dim(self) -> int:
        """Dimensions of a head that are turned by its position."""
        return self.head_dim if self.latent is None else self.latent.qk_rope_head_dim

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, field by field; parts that a model has not are left out."""
        out = {**asdict(self), "eos_token_ids": list(self.eos_token_ids)}
        for name in NESTED:
            part = getattr(self, name)
            if part is None:
                del out[name]
            else:
                out[name] = part.to_json()
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelSpec:
        """The inverse of to_json; unknown and missing fields are errors."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise SpecError(f"Unknown model fields: {', '.join(map(shown, unknown[:8]))}.")
        required = known - {"bos_token_id", "eos_token_ids", *NESTED}
        if missing := sorted(required - set(data)):
            raise SpecError(f"Missing model fields: {', '.join(missing)}.")
        stops = data.get("eos_token_ids", [])
        if not isinstance(stops, (list, tuple)):
            raise SpecError("eos_token_ids must be a list.")
        nested = {name: kind.from_json(data[name]) for name, kind in NESTED.items() if name in data}
        return cls(**{**data, **nested, "eos_token_ids": tuple(stops)})


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
