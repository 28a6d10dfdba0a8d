"""What the groups of `h2q bench engine` share: models, prompts, peers, and how a row is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from h2q import kernels
from h2q.bench.engine_runs import Engine, Lengths, Prompts
from h2q.bench.llama_peer import LlamaPeer
from h2q.bench.random_model import RandomWeights
from h2q.bench.rows import Row, Target
from h2q.bench.timing import Timing

PLANES = {"2": 1, "2+2": 2}  # planes of a stack, by what a row calls them


@dataclass
class Bench:
    """What all groups share. `goals`: whether this is the shape that goals are set for."""

    weights: RandomWeights
    lengths: Lengths
    repeats: int
    goals: bool
    peers: Mapping[str, LlamaPeer]
    profile: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prompts = Prompts(self.weights.spec)
        self.models = {name: self.weights.model(count) for name, count in PLANES.items()}

    def engine(self, bits: str, streams: int = 1) -> Engine:
        return Engine(self.models[bits], self.lengths.positions, streams)

    def goal(self, least: float | None = None, most: float | None = None) -> Target | None:
        known = least is not None or most is not None
        return Target("ratio", least, most) if self.goals and known else None

    def row(
        self,
        name: str,
        timing: Timing,
        value: float,
        unit: str,
        ratio: float,
        ratio_to: str,
        target: Target | None = None,
        path: str = "",
    ) -> Row:
        path, threads = path or kernels.path(), kernels.threads()
        return Row(name, path, threads, timing, value, unit, ratio, ratio_to, target)
