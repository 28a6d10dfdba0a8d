"""How many bits each part of the model gets: foretold before anything is coded, ranked by what was
measured afterwards.

Losses are in nats of KL divergence per token and taken as additive over parts, which holds well
while they are small (see sensitivity.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from h2q.codec.layout import PanelLayout
from h2q.core.architecture import EMBEDDING, Part, coded
from h2q.core.specs import ModelSpec, PlaneSpec
from h2q.crystallize.growing import Grown
from h2q.crystallize.sensitivity import Rows, Sensitivity
from h2q.geometry.decision import DiscreteDecisionEngine, Step

# Up to eight bits: where little is lost elsewhere, the head's rows of frequent words need them.
TOWERS = {
    1: (1,),
    2: (2,),
    3: (2, 1),
    4: (2, 2),
    5: (2, 2, 1),
    6: (2, 2, 2),
    7: (2, 2, 2, 1),
    8: (2, 2, 2, 2),
}
# Loss of a tower under feedback, relative to plain two-bit rounding's shaped by the same inputs;
# measured on the seed model (docs/lab/LOG.md).
LOSS_OF_BITS = {
    1: 3.9,
    2: 1.0,
    3: 0.32,
    4: 0.084,
    5: 0.026,
    6: 0.0056,
    7: 0.0018,
    8: 0.0007,
}
TWO_BITS = 0.07  # of a row's power, two bits without feedback


def stack_bytes(part: Part, bits: int) -> int:
    """Bytes of a part's tower of `bits` bits a weight."""
    return sum(PanelLayout.of(PlaneSpec(b, *part.shape)).byte_count for b in TOWERS[bits])


@dataclass(frozen=True)
class Judge:
    """What errors cost. `identity`: strength of the identity in the moments of a tied embedding,
    relative to their mean. `factors`: corrections by kind of tensor, from measurements.
    """

    spec: ModelSpec
    sensitivity: Sensitivity
    identity: float
    factors: Mapping[str, float]

    def row_weights(self, part: Part) -> Rows:
        """Nats per token for each unit of a row's cost e H e^T, float64 (rows,)."""
        tensor, rows, found = part.tensor, part.rows, self.sensitivity
        scale = 0.5 * self.factors.get(kind(part), 1.0)
        if tensor.name != EMBEDDING:
            return scale * found.rows[tensor.name][rows]
        looked_up = found.embedding[rows]
        if not self.spec.tie_word_embeddings:
            return scale * looked_up
        power = max(found.power[tensor.reads], 1e-30)
        # Rounded under H + identity * mean(H): its error is nearly white.
        both = found.rows[tensor.name][rows] + looked_up / power
        return scale * both / (1 + self.identity)

    def foretold(self, part: Part, bits: int) -> float:
        """Loss of a part at `bits` bits a weight before it is coded."""
        tensor, found = part.tensor, self.sensitivity
        power = found.norms[tensor.name][part.rows]
        shaping = 1.0
        if tensor.name != EMBEDDING:
            power = power * found.power[tensor.reads]
            shaping = found.shaping[tensor.reads]
        elif self.spec.tie_word_embeddings:
            power = power * found.power[tensor.reads] * (1 + self.identity)
        whole = float(np.dot(self.row_weights(part), power))
        return whole * min(1.0, TWO_BITS * shaping * LOSS_OF_BITS[bits])

    def measured(self, part: Part, grown: Grown) -> list[float]:
        """Loss of a coded part with none, one, two ... of its planes."""
        return [float(loss) for loss in grown.costs @ self.row_weights(part)]


def kind(part: Part) -> str:
    """What a tensor is: the last word before `.weight`, as `q_proj`."""
    return part.tensor.name.split(".")[-2]


def rates(part: Part) -> list[int]:
    """Bits a weight that a part may get, rising. Narrow matrices take as many bytes at two bits as
    at one; of rates that cost the same the highest stays.
    """
    highest = {stack_bytes(part, bits): bits for bits in TOWERS}
    return sorted(highest.values())


def plan_ladders(judge: Judge) -> list[list[Step]]:
    """For every part the steps from its lowest rate to its highest, foretold."""
    out = []
    for part in coded(judge.spec):
        losses = [judge.foretold(part, bits) for bits in rates(part)]
        sizes = [stack_bytes(part, bits) for bits in rates(part)]
        out.append(
            [
                Step(part.name, level, sizes[level] - sizes[level - 1], losses[level - 1] - loss)
                for level, loss in enumerate(losses[1:], 1)
            ]
        )
    return out


def plan_for_bytes(judge: Judge, budget: int) -> dict[str, int]:
    """Bits a weight of every part, together within `budget` bytes where that can be."""
    floor = sum(stack_bytes(part, 1) for part in coded(judge.spec))
    best = DiscreteDecisionEngine(plan_ladders(judge)).best(max(0, budget - floor))
    return _bits(judge.spec, best.steps)


def plan_for_loss(judge: Judge, most: float) -> dict[str, int]:
    """Bits a weight of every part for the fewest bytes whose foretold loss is at most `most`; the
    most for all where that cannot be.
    """
    ladders = plan_ladders(judge)
    left = sum(judge.foretold(part, rates(part)[0]) for part in coded(judge.spec))
    taken: list[Step] = []
    for step in DiscreteDecisionEngine(ladders).rank():
        if left <= most:
            break
        taken.append(step)
        left -= step.value
    return _bits(judge.spec, taken)


def _bits(spec: ModelSpec, steps: Iterable[Step]) -> dict[str, int]:
    levels = {part.name: 0 for part in coded(spec)}
    for step in steps:
        levels[str(step.key)] += 1
    return {part.name: rates(part)[levels[part.name]] for part in coded(spec)}


def foretold_loss(judge: Judge, bits: Mapping[str, int]) -> float:
    """Sum over parts."""
    return sum(judge.foretold(part, bits[part.name]) for part in coded(judge.spec))


def layer_of(part: Part) -> int:
    """The index of the part's layer; -1 outside of the layers."""
    words = part.tensor.name.split(".")
    return int(words[2]) if words[1] == "layers" else -1


def plane_ladders(
    judge: Judge, grown: Mapping[str, Grown], priorities: Mapping[int, float] | None = None
) -> list[list[Step]]:
    """For every part with refinements the steps they are, measured: level k is plane k. Gains in a
    layer are multiplied by its priority (SpectralStabilityController.priorities).
    """
    out, first = [], priorities or {}
    for part in coded(judge.spec):
        found = grown[part.name]
        losses = judge.measured(part, found)[1:]
        planes, weight = found.planes[1:], first.get(layer_of(part), 1.0)
        if planes:
            gains = [weight * (losses[k - 1] - losses[k]) for k in range(1, len(planes) + 1)]
            out.append(
                [
                    Step(part.name, level, plane.byte_count, gains[level - 1])
                    for level, plane in enumerate(planes, 1)
                ]
            )
    return out


def groups(ranked: list[Step], count: int) -> list[list[Step]]:
    """Cut a ranked list into at most `count` groups of about equal bytes, order kept."""
    total = sum(step.cost for step in ranked)
    out: list[list[Step]] = []
    spent = 0
    for step in ranked:
        if not out or spent * count >= total * len(out):
            out.append([])
        out[-1].append(step)
        spent += step.cost
    return out
