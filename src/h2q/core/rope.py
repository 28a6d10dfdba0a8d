"""How rotary frequencies are stretched so that a model reads further than it was first trained:
plain numbers; `engine.positions` has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from reprlib import repr as brief
from typing import Any

from h2q.core.bounds import require_flag, require_integer, require_number
from h2q.core.errors import SpecError, shown

MAX_FACTOR = 1e6
MAX_FREQUENCIES = 1 << 16
# What each kind needs; every other field keeps its default.
NEEDED = {
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "yarn": ("factor", "original_max_position_embeddings"),
    "factors": ("factors",),
}


@dataclass(frozen=True)
class RopeScaling:
    """rope_type: `linear`, `llama3`, `yarn` as Hugging Face calls them, or `factors`: each
    frequency divided by its own number, of `factors`. attention_factor: what cosines and sines are
    multiplied by. truncate: whether YaRN's ramp begins and ends at whole dimensions.

    Raises SpecError when a field is missing, of the wrong type, or out of bounds.
    """

    rope_type: str
    factor: float = 0.0
    low_freq_factor: float = 0.0
    high_freq_factor: float = 0.0
    original_max_position_embeddings: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0
    factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.rope_type, str) or self.rope_type not in NEEDED:
            raise SpecError(
                f"Rotary positions cannot be scaled by {brief(self.rope_type)}.",
                fix=f"Known: {', '.join(NEEDED)}.",
            )
        needed = NEEDED[self.rope_type]
        for name in ("factor", "low_freq_factor", "high_freq_factor"):
            if name in needed:
                require_number(f"rope_scaling {name}", getattr(self, name), 0.0, MAX_FACTOR)
        if "original_max_position_embeddings" in needed:
            length = self.original_max_position_embeddings
            require_integer("original_max_position_embeddings", length, 1, 1 << 28)
        if self.rope_type == "llama3" and not self.low_freq_factor < self.high_freq_factor:
            raise SpecError("high_freq_factor must be above low_freq_factor.")
        for name in ("beta_fast", "beta_slow", "attention_factor"):
            require_number(f"rope_scaling {name}", getattr(self, name), 0.0, MAX_FACTOR)
        require_flag("rope_scaling truncate", self.truncate)
        if not isinstance(self.factors, tuple) or len(self.factors) > MAX_FREQUENCIES:
            raise SpecError("rope_scaling factors must be a short list of numbers.")
        if bool(self.factors) != ("factors" in needed):
            raise SpecError(f"{self.rope_type} scaling and its factors do not fit.")
        for value in self.factors:
            require_number("A factor of rope_scaling", value, 0.0, MAX_FACTOR)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; fields that keep their default are left out."""
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {f.name: out[f.name] for f in fields(self) if out[f.name] != f.default}
        return {**kept, **({"factors": list(self.factors)} if self.factors else {})}

    @classmethod
    def from_json(cls, data: object) -> RopeScaling:
        """The inverse of to_json; unknown fields are errors."""
        if not isinstance(data, Mapping):
            raise SpecError("rope_scaling must be an object.")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise SpecError(f"Unknown fields of rope_scaling: {shown(unknown[0])}.")
        if "rope_type" not in data:
            raise SpecError("rope_scaling lacks rope_type.")
        factors = data.get("factors", [])
        if not isinstance(factors, (list, tuple)):
            raise SpecError("rope_scaling factors must be a list.")
        return cls(**{**data, "factors": tuple(factors)})
