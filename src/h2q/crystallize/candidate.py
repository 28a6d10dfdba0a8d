"""A grown crystal before it is written: planes, their order, how many bytes every prefix takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from h2q.core.architecture import coded
from h2q.core.events import Progress, ProgressListener
from h2q.crystal.sizes import prefix_bytes
from h2q.crystallize.allocate import Judge, groups, kind, plane_ladders
from h2q.crystallize.evaluate import Comparison, compare
from h2q.crystallize.growing import Grown
from h2q.crystallize.moments import TokenArray
from h2q.crystallize.remembered import Network
from h2q.engine import Model
from h2q.engine.load import PlaneWeights, build
from h2q.geometry.decision import DiscreteDecisionEngine, Step
from h2q.sources import Source

LEAST_GAIN = 1e-6  # nats: a smaller change says nothing about a kind of tensor
MOST_CORRECTION = 4.0


@dataclass(frozen=True)
class Candidate:
    """`steps`: refinement planes in their order, level k of a part being its plane k."""

    source: Source
    seed: int
    grown: Mapping[str, Grown]
    steps: tuple[Step, ...]
    most_groups: int

    @property
    def groups(self) -> list[list[tuple[str, int]]]:
        """Per refinement shard its planes: (part name, index)."""
        cut = groups(list(self.steps), self.most_groups)
        return [[(str(step.key), step.level) for step in group] for group in cut]

    @property
    def heights(self) -> dict[str, int]:
        """Planes of every part."""
        out = dict.fromkeys(self.grown, 1)
        for step in self.steps:
            out[str(step.key)] += 1
        return out

    @property
    def sizes(self) -> list[int]:
        """Bytes of the base and of every prefix of groups."""
        bits = {
            name: tuple(plane.spec.bits for plane in self.grown[name].planes[:height])
            for name, height in self.heights.items()
        }
        return prefix_bytes(self.source.spec, self.seed, bits, self.groups)

    def cut(self, count: int) -> Candidate:
        """With the first `count` refinement planes only."""
        return Candidate(self.source, self.seed, self.grown, self.steps[:count], self.most_groups)

    def without(self, step: Step) -> Candidate:
        """Less one plane, the last of its part."""
        steps = tuple(other for other in self.steps if other != step)
        return Candidate(self.source, self.seed, self.grown, steps, self.most_groups)

    def model(self, heights: Mapping[str, int] | None = None) -> Model:
        """The network with so many planes of every part."""
        chosen = self.heights if heights is None else heights
        weights = PlaneWeights(
            lambda name: self.grown[name].planes[: chosen[name]],
            lambda name: np.ascontiguousarray(self.source.tensor(name), np.float32),
            self.seed,
        )
        return build(self.source.spec, weights)

    def judged(self, truth: Network, texts: TokenArray) -> Comparison:
        """Against the original, on int64 (texts, length) tokens."""
        return compare(truth, [self.model()], texts)[0]


def ranked(
    source: Source,
    seed: int,
    judge: Judge,
    grown: Mapping[str, Grown],
    most_groups: int,
    priorities: Mapping[int, float] | None = None,
) -> Candidate:
    """All refinement planes by measured gain per byte, times the priority of their layer."""
    ladders = plane_ladders(judge, grown, priorities)
    steps = tuple(DiscreteDecisionEngine(ladders).rank()) if ladders else ()
    return Candidate(source, seed, grown, steps, most_groups)


def measured_factors(
    candidate: Candidate, judge: Judge, truth: Network, texts: TokenArray, listen: ProgressListener
) -> dict[str, float]:
    """What the judge's gains of each kind of tensor must be multiplied by: the refinements of one
    kind are taken away and the whole network is measured.
    """
    table = {part.name: part for part in coded(judge.spec)}
    full = candidate.heights
    gains: dict[str, float] = {}
    for name, height in full.items():
        losses = judge.measured(table[name], candidate.grown[name])
        gains[kind(table[name])] = gains.get(kind(table[name]), 0.0) + losses[1] - losses[height]
    kinds = [word for word, gain in gains.items() if gain > LEAST_GAIN]
    heights = [
        {name: 1 if kind(table[name]) == word else height for name, height in full.items()}
        for word in kinds
    ]
    models = [candidate.model(full), *(candidate.model(chosen) for chosen in heights)]
    results = compare(
        truth, models, texts, lambda share: listen(Progress("correct the ranking", share, 1))
    )
    whole = results[0].kl_mean
    return {
        word: float(
            np.clip((r.kl_mean - whole) / gains[word], 1 / MOST_CORRECTION, MOST_CORRECTION)
        )
        for word, r in zip(kinds, results[1:], strict=True)
    }


def plan_report(candidate: Candidate, judge: Judge) -> dict[str, Any]:
    """For the certificate: how far each prefix of the ranking is from the best of its size, and the
    corrections.
    """
    ladders = plane_ladders(judge, candidate.grown)
    report: dict[str, Any] = {"planes": len(candidate.steps), "factors": dict(judge.factors)}
    if ladders:
        gains = {(step.key, step.level): step for ladder in ladders for step in ladder}
        order = [gains[step.key, step.level] for step in candidate.steps]
        gaps = DiscreteDecisionEngine(ladders).gaps(order)
        report |= {"largest_gap": max(gaps, default=0.0), "gaps": [round(g, 6) for g in gaps]}
    return report
