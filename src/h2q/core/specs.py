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

from h2q.core.errors import SpecError, shown

# Limits are generous for any model published so far and small enough that no product of two
# overflows 63 bits.
MAX_VOCABULARY = 1 << 22
MAX_WIDTH = 1 << 17  # 127 * 127 * 2^17 still fits the int32 sums of the kernels
MAX_LAYERS = 1 << 12
MAX_HEADS = 1 << 12
MAX_CONTEXT = 1 << 28


@dataclass(frozen=True)
class ModelSpec:
    """Sizes and constants of one decoder-only transformer.

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

    def __post_init__(self) -> None:
        self._integer("vocab_size", 1, MAX_VOCABULARY)
        self._integer("hidden_size", 1, MAX_WIDTH)
        self._integer("intermediate_size", 1, MAX_WIDTH)
        self._integer("num_hidden_layers", 1, MAX_LAYERS)
        self._integer("num_attention_heads", 1, MAX_HEADS)
        self._integer("num_key_value_heads", 1, MAX_HEADS)
        self._integer("head_dim", 2, MAX_WIDTH)
        self._integer("max_position_embeddings", 1, MAX_CONTEXT)
        self._number("rms_norm_eps", 0.0, 1.0)
        self._number("rope_theta", 1.0, 1e12)
        if not isinstance(self.tie_word_embeddings, bool):
            raise SpecError("tie_word_embeddings must be true or false.")
        if self.num_attention_heads % self.num_key_value_heads:
            raise SpecError(
                f"{self.num_attention_heads} attention heads cannot share "
                f"{self.num_key_value_heads} key-value heads evenly."
            )
        if self.head_dim % 2:
            raise SpecError(f"head_dim must be even for rotary positions, not {self.head_dim}.")
        if self.num_attention_heads * self.head_dim > MAX_WIDTH:
            raise SpecError(f"The attention width exceeds {MAX_WIDTH:,}.")
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

    def _integer(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise SpecError(
                f"{name} must be a whole number from {low:,} to {high:,}, not {brief(value)}."
            )

    def _number(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not low < value <= high:  # NaN is not above anything
            raise SpecError(
                f"{name} must be a number above {low:g} and at most {high:g}, not {brief(value)}."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, field by field."""
        return {**asdict(self), "eos_token_ids": list(self.eos_token_ids)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelSpec:
        """The inverse of to_json; unknown and missing fields are errors."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise SpecError(f"Unknown model fields: {', '.join(map(shown, unknown[:8]))}.")
        required = known - {"bos_token_id", "eos_token_ids"}
        if missing := sorted(required - set(data)):
            raise SpecError(f"Missing model fields: {', '.join(missing)}.")
        stops = data.get("eos_token_ids", [])
        if not isinstance(stops, (list, tuple)):
            raise SpecError("eos_token_ids must be a list.")
        return cls(**{**data, "eos_token_ids": tuple(stops)})


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
