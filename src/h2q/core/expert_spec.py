"""A layer of experts: how many there are, how a token chooses, what is added besides.

Field names are those of Hugging Face's configurations where they agree.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from reprlib import repr as brief
from typing import Any

from h2q.core.bounds import require_flag, require_integer, require_number, strict_fields
from h2q.core.errors import SpecError

MAX_EXPERTS = 1 << 12
MAX_INNER = 1 << 17
MAX_MIXED_LAYERS = 1 << 12
SCORES = ("softmax", "sigmoid")
METHODS = ("greedy", "group_limited_greedy", "noaux_tc")


@dataclass(frozen=True)
class ExpertSpec:
    """scoring_func: softmax or sigmoid of the router's logits. topk_method: `greedy` takes the best
    num_experts_per_tok; `group_limited_greedy` only from the topk_group of n_group groups whose
    best expert is best (DeepSeek-V2); `noaux_tc` adds a correction bias while choosing and ranks
    groups by their two best (DeepSeek-V3). norm_topk_prob: chosen scores are made to sum to one;
    then they are multiplied by routed_scaling_factor. n_shared_experts: widths of
    moe_intermediate_size that every token uses. mlp_only_layers: layers without experts, rising.

    Raises SpecError when a field is of the wrong type, out of bounds, or contradicts another.
    """

    num_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    scoring_func: str = "softmax"
    topk_method: str = "greedy"
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    n_shared_experts: int = 0
    n_group: int = 1
    topk_group: int = 1
    mlp_only_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_integer("num_experts", self.num_experts, 1, MAX_EXPERTS)
        require_integer("num_experts_per_tok", self.num_experts_per_tok, 1, self.num_experts)
        require_integer("moe_intermediate_size", self.moe_intermediate_size, 1, MAX_INNER)
        require_integer(
            "n_shared_experts", self.n_shared_experts, 0, MAX_INNER // self.moe_intermediate_size
        )
        require_integer("n_group", self.n_group, 1, self.num_experts)
        require_integer("topk_group", self.topk_group, 1, self.n_group)
        require_number("routed_scaling_factor", self.routed_scaling_factor, 0.0, 1e6)
        require_flag("norm_topk_prob", self.norm_topk_prob)
        for name, value, known in (
            ("scoring_func", self.scoring_func, SCORES),
            ("topk_method", self.topk_method, METHODS),
        ):
            if not isinstance(value, str) or value not in known:
                raise SpecError(f"{name} must be {' or '.join(known)}, not {brief(value)}.")
        size = self.num_experts // self.n_group
        if self.num_experts % self.n_group:
            raise SpecError(f"{self.num_experts} experts do not split into {self.n_group} groups.")
        if self.topk_method == "greedy" and self.n_group != 1:
            raise SpecError("The greedy choice knows no groups.")
        if self.topk_method == "noaux_tc" and size < 2 and self.n_group > 1:
            raise SpecError("Groups are ranked by their two best experts; they have one.")
        if self.num_experts_per_tok > self.topk_group * size:
            raise SpecError(
                f"{self.topk_group} groups of {size} experts cannot give "
                f"{self.num_experts_per_tok} to a token."
            )
        layers = self.mlp_only_layers
        if not isinstance(layers, tuple) or len(layers) > MAX_MIXED_LAYERS:
            raise SpecError("mlp_only_layers must be a short list of layers.")
        for layer in layers:
            require_integer("A layer of mlp_only_layers", layer, 0, MAX_MIXED_LAYERS)
        if list(layers) != sorted(set(layers)):
            raise SpecError("mlp_only_layers must rise.")

    @property
    def shared_size(self) -> int:
        """Width of the shared experts, which are one gated MLP."""
        return self.n_shared_experts * self.moe_intermediate_size

    def mixed(self, layer: int) -> bool:
        """Whether a layer has experts."""
        return layer not in self.mlp_only_layers

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, field by field."""
        return {**asdict(self), "mlp_only_layers": list(self.mlp_only_layers)}

    @classmethod
    def from_json(cls, data: object) -> ExpertSpec:
        """The inverse of to_json; unknown and missing fields are errors."""
        row = strict_fields(cls, data, "experts")
        layers = row["mlp_only_layers"]
        if not isinstance(layers, (list, tuple)):
            raise SpecError("mlp_only_layers must be a list.")
        return cls(**{**row, "mlp_only_layers": tuple(layers)})
