"""The best level of each ladder within a budget: the multiple-choice knapsack with precedence.

Ladder i offers levels 0, 1, 2, ...; level j costs C[i][j] and is worth V[i][j], both counted from
level 0, which costs and brings nothing. One level per ladder is chosen, total cost <= budget, total
value as large as possible.

The relaxation (Dantzig 1957, Sinha & Zoltners 1979) walks the upper concave hulls of all ladders by
falling slope until the budget breaks a segment. Its slope p is the price of a byte. At that price
no choice of a ladder beats the walk's own one, so a choice of deviations d with costs c_d and
values v_d is worth at most `walk value + p * (budget - walk cost) - sum(p * c_d - v_d)`: every
deviation has a regret, and regrets add up. The search (after Pisinger 1995) takes ladders in order
of their smallest regret and keeps the states (cost, value) that are neither dominated nor bounded
below what is already in hand. Costs may be anything; nothing is tabulated over bytes.

Exact up to the rounding of float64 while the states fit the limit. Beyond it, the states of highest
bound stay, and the highest bound that was dropped is declared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STATE_LIMIT = 1 << 22  # states kept for tracing back, 9 bytes each

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Segment:
    """Levels `first` to `last` (exclusive, inclusive) of a ladder's upper hull; `slope` is value
    per unit of cost and never rises along a ladder.
    """

    ladder: int
    first: int
    last: int
    cost: int
    slope: float


@dataclass(frozen=True)
class Table:
    """`costs[i]` int64 and `values[i]` float64, both (levels + 1,), begin with 0; costs rise.
    `segments`: all hull segments by falling slope, ties by ladder; `spent[k]`: the cost of the
    first k of them whose slope is above zero.
    """

    costs: tuple[IntArray, ...]
    values: tuple[FloatArray, ...]
    segments: tuple[Segment, ...]
    spent: IntArray

    @classmethod
    def of(cls, costs: list[list[int]], values: list[list[float]]) -> Table:
        """From the cost and value of each single step."""
        cost_sums = tuple(np.cumsum([0, *row], dtype=np.int64) for row in costs)
        value_sums = tuple(np.cumsum([0.0, *row]) for row in values)
        segments = [
            segment
            for ladder, (cost, value) in enumerate(zip(cost_sums, value_sums, strict=True))
            for segment in _hull(ladder, cost, value)
        ]
        segments.sort(key=lambda segment: -segment.slope)  # stable: ties stay by ladder
        useful = [segment.cost for segment in segments if segment.slope > 0]
        spent = np.cumsum([0, *useful], dtype=np.int64)
        return cls(cost_sums, value_sums, tuple(segments), spent)

    def value(self, levels: list[int]) -> float:
        """Total value of one level per ladder."""
        return math.fsum(row[level] for row, level in zip(self.values, levels, strict=True))


@dataclass(frozen=True)
class Solution:
    """One level per ladder, its value, and a value that no choice within the budget exceeds."""

    levels: list[int]
    value: float
    bound: float


@dataclass(frozen=True)
class _Walk:
    """The relaxation: `count` whole segments up to the broken one, and what they leave over."""

    levels: list[int]
    value: float
    left: int
    count: int
    price: float


def solve(table: Table, budget: int, state_limit: int = STATE_LIMIT) -> Solution:
    """The best levels within `budget`; `bound` exceeds `value` only when `state_limit` was met."""
    walk = _walk(table, budget)
    bound = walk.value + walk.price * walk.left
    levels = _fill(table, walk) if walk.left else walk.levels
    found = Solution(levels, table.value(levels), bound)
    if walk.price == 0 or found.value >= bound:
        return Solution(found.levels, found.value, found.value)
    return _search(table, walk, found, state_limit)


def _hull(ladder: int, costs: IntArray, values: FloatArray) -> list[Segment]:
    out: list[Segment] = []
    at, slope, top = 0, math.inf, len(costs) - 1
    while at < top:
        slopes = (values[at + 1 :] - values[at]) / (costs[at + 1 :] - costs[at])
        step = len(slopes) - int(np.argmax(slopes[::-1]))  # of equal slopes the longest
        slope = min(slope, float(slopes[step - 1]))  # rounding never turns a ladder around
        out.append(Segment(ladder, at, at + step, int(costs[at + step] - costs[at]), slope))
        at += step
    return out


def _walk(table: Table, budget: int) -> _Walk:
    count = int(np.searchsorted(table.spent, min(budget, int(table.spent[-1])), "right")) - 1
    levels = [0] * len(table.costs)
    for segment in table.segments[:count]:
        levels[segment.ladder] = segment.last
    whole = count == len(table.spent) - 1
    price = 0.0 if whole else table.segments[count].slope
    return _Walk(levels, table.value(levels), budget - int(table.spent[count]), count, price)


def _fill(table: Table, walk: _Walk) -> list[int]:
    """The walk, gone on with single steps wherever they still fit and bring something."""
    levels, left = list(walk.levels), walk.left
    for segment in table.segments[walk.count : len(table.spent) - 1]:
        here = segment.ladder
        if not segment.first <= levels[here] < segment.last:
            continue
        costs, values, level = table.costs[here], table.values[here], levels[here]
        fits = np.flatnonzero(costs[level + 1 : segment.last + 1] - costs[level] <= left)
        if len(fits):
            gains = values[level + 1 + fits] - values[level]
            best = int(np.argmax(gains))
            if gains[best] > 0:
                levels[here] = level + 1 + int(fits[best])
                left -= int(costs[levels[here]] - costs[level])
    return levels


@dataclass(frozen=True)
class _Options:
    """What ladder `ladder` can do instead of the walk's level: levels, and differences of cost and
    value, by rising regret; the walk's own level first.
    """

    ladder: int
    levels: IntArray
    costs: IntArray
    values: FloatArray
    regrets: FloatArray


def _options(table: Table, walk: _Walk) -> list[_Options]:
    """Ladders that have a choice, the least regret first."""
    out = []
    for ladder, here in enumerate(walk.levels):
        costs = table.costs[ladder] - table.costs[ladder][here]
        values = table.values[ladder] - table.values[ladder][here]
        regrets = np.maximum(walk.price * costs - values, 0.0)
        regrets[here] = -1.0  # the walk's own level stays in front among equals
        order = np.argsort(regrets, kind="stable")
        if len(order) > 1:
            kept = np.maximum(regrets[order], 0.0)
            out.append(_Options(ladder, order, costs[order], values[order], kept))
    out.sort(key=lambda options: options.regrets[1])
    return out


def _search(table: Table, walk: _Walk, found: Solution, state_limit: int) -> Solution:
    """`found` or better, by states (left, gain) that deviate from the walk."""
    ladders = _options(table, walk)
    gain = found.value - walk.value
    reach = found.bound - walk.value  # what no deviation exceeds
    ladders = [o for o in ladders if reach - o.regrets[1] > gain]
    # The most bytes that the ladders from k on can still give back.
    refunds = [0, *np.cumsum([-int(o.costs.min()) for o in ladders[::-1]], dtype=np.int64)][::-1]
    limit = max(1, state_limit // max(1, len(ladders)))
    left, gains = np.array([walk.left], np.int64), np.zeros(1)
    parents: list[npt.NDArray[np.int32]] = []
    choices: list[npt.NDArray[np.int8]] = []
    best: tuple[int, int, int] | None = None  # ladder, parent, choice
    dropped = -math.inf
    for index, options in enumerate(ladders):
        some = np.flatnonzero(reach - options.regrets > gain)
        wide, count = len(some), len(left)
        left = (left[None] - options.costs[some, None]).reshape(-1)
        gains = (gains[None] + options.values[some, None]).reshape(-1)
        origin = np.tile(np.arange(count, dtype=np.int32), wide)
        choice = np.repeat(some, count).astype(np.int8)
        feasible = np.where(left >= 0, gains, -math.inf)
        top = int(np.argmax(feasible))
        if feasible[top] > gain:
            gain, best = float(feasible[top]), (index, int(origin[top]), int(choice[top]))
        bounds = gains + walk.price * left
        keep = np.flatnonzero((bounds > gain) & (left >= -refunds[index + 1]))
        keep = keep[np.lexsort((-gains[keep], -left[keep]))]
        if len(keep):  # of two states the one with less left and no more gain is dominated
            ahead = np.concatenate(([-math.inf], np.maximum.accumulate(gains[keep])[:-1]))
            keep = keep[gains[keep] > ahead]
        if len(keep) > limit:
            order = np.argsort(-bounds[keep], kind="stable")
            dropped = max(dropped, float(bounds[keep[order[limit]]]))
            keep = np.sort(keep[order[:limit]])
        left, gains = left[keep], gains[keep]
        parents.append(origin[keep])
        choices.append(choice[keep])
        if not len(keep):
            break
    levels = found.levels if best is None else _trace(walk, ladders, parents, choices, best)
    value = table.value(levels)
    return Solution(levels, value, max(value, walk.value + dropped))


def _trace(
    walk: _Walk,
    ladders: list[_Options],
    parents: list[npt.NDArray[np.int32]],
    choices: list[npt.NDArray[np.int8]],
    best: tuple[int, int, int],
) -> list[int]:
    levels = list(walk.levels)
    index, parent, choice = best
    levels[ladders[index].ladder] = int(ladders[index].levels[choice])
    for at in range(index - 1, -1, -1):
        choice, parent = int(choices[at][parent]), int(parents[at][parent])
        levels[ladders[at].ladder] = int(ladders[at].levels[choice])
    return levels
