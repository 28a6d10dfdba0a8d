"""Multi-head latent attention (DeepSeek-V2, 2024): keys and values of all heads come from one short
row per token, the latent; positions sit in a few dimensions of their own, shared by all heads.

Field names are Hugging Face's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from h2q.core.bounds import require_integer, strict_fields
from h2q.core.errors import SpecError

MAX_PART = 1 << 15


@dataclass(frozen=True)
class LatentSpec:
    """q_lora_rank: width of the row that queries come from, None where they come from the stream.
    kv_lora_rank: width of the latent. A head compares qk_nope_head_dim dimensions without positions
    and qk_rope_head_dim with, and has v_head_dim values.

    Raises SpecError when a field is of the wrong type or out of bounds.
    """

    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int

    def __post_init__(self) -> None:
        if self.q_lora_rank is not None:
            require_integer("q_lora_rank", self.q_lora_rank, 1, MAX_PART)
        for name in ("kv_lora_rank", "qk_nope_head_dim", "v_head_dim"):
            require_integer(name, getattr(self, name), 1, MAX_PART)
        require_integer("qk_rope_head_dim", self.qk_rope_head_dim, 2, MAX_PART)
        if self.qk_rope_head_dim % 2:
            raise SpecError(f"qk_rope_head_dim must be even, not {self.qk_rope_head_dim}.")

    @property
    def qk_head_dim(self) -> int:
        """Dimensions a head compares."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def row(self) -> int:
        """Width of what the cache keeps of a token: the latent, then the key with positions."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, field by field."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> LatentSpec:
        """The inverse of to_json; unknown and missing fields are errors."""
        return cls(**strict_fields(cls, data, "latent"))
