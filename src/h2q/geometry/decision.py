"""Decisions over ladders of steps: which steps to take for a budget, and in which order, so that
every prefix of the order is close to the best of its size.

A ladder is what one key can get, level by level: a step needs the step before it. Its cost is in
bytes, its value is what it adds to the steps below it; values may be negative, and a later step may
be worth more than an earlier one. Values of different keys add up. Nothing here knows what a model
is.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from h2q.core.errors import UsageError
from h2q.geometry.knapsack import STATE_LIMIT, Table, solve

MAX_LEVELS = 127
MAX_TOTAL_COST = 1 << 62  # sums stay within int64


@dataclass(frozen=True)
class Step:
    """Level `level` of `key` costs `cost` bytes, at least 1, and adds `value` to the level below
    it.
    """

    key: Hashable
    level: int
    cost: int
    value: float


@dataclass(frozen=True)
class Choice:
    """Steps that hold precedence together, their value and cost, and a `bound` that no choice
    within the budget exceeds: equal to `value` when the choice is proven to be the best.
    """

    steps: frozenset[Step]
    value: float
    cost: int
    bound: float

    @property
    def gap(self) -> float:
        """How far the value may be below the best, relative to the best; 0 when proven."""
        return relative_gap(self.value, self.bound)


Ladder = Sequence[Step]


class DiscreteDecisionEngine:
    """Ladders, checked once. Raises UsageError where a ladder is empty, mixes keys, skips a level,
    repeats a key, or has a cost below 1 or a value that is not finite.
    """

    def __init__(self, ladders: Iterable[Ladder]) -> None:
        self.ladders = tuple(tuple(ladder) for ladder in ladders)
        for ladder in self.ladders:
            _check(ladder)
        if len({ladder[0].key for ladder in self.ladders}) != len(self.ladders):
            raise UsageError("A key has more than one ladder.")
        if sum(step.cost for ladder in self.ladders for step in ladder) >= MAX_TOTAL_COST:
            raise UsageError(f"The costs together must be below {MAX_TOTAL_COST:,} bytes.")
        self._table = Table.of(
            [[step.cost for step in ladder] for ladder in self.ladders],
            [[step.value for step in ladder] for ladder in self.ladders],
        )

    def rank(self) -> list[Step]:
        """All steps in one order: by value per byte over the upper concave hull of each ladder.
        Steps of one hull segment stay together, precedence holds, ties keep the order of the
        ladders. At the end of every segment the prefix is the best of its size, as long as slopes
        are not below zero.
        """
        return [
            step
            for segment in self._table.segments
            for step in self.ladders[segment.ladder][segment.first : segment.last]
        ]

    def best(self, budget: int, state_limit: int = STATE_LIMIT) -> Choice:
        """The choice of highest value within `budget` bytes. Proven to be the best unless the
        search met `state_limit`, then the gap is declared. Raises UsageError for a budget below 0.
        """
        if budget < 0:
            raise UsageError(f"A budget must be at least 0 bytes, not {budget:,}.")
        found = solve(self._table, budget, state_limit)
        taken = [
            step
            for ladder, level in zip(self.ladders, found.levels, strict=True)
            for step in ladder[:level]
        ]
        cost = sum(step.cost for step in taken)
        return Choice(frozenset(taken), found.value, cost, found.bound)

    def gaps(self, order: Sequence[Step], state_limit: int = STATE_LIMIT) -> list[float]:
        """For each prefix of `order`, from the one with a single step on: how far its value is
        below the best of its own size, relative to that best. Against the declared bound where the
        best is not proven, so never too small. Raises UsageError when the order breaks precedence
        or has a step that no ladder has.
        """
        known = {ladder[0].key: ladder for ladder in self.ladders}
        taken = dict.fromkeys(known, 0)
        out: list[float] = []
        values: list[float] = []
        cost = 0
        for step in order:
            ladder, level = known.get(step.key, ()), taken.get(step.key, 0)
            if level >= len(ladder) or ladder[level] != step:
                raise UsageError("A step comes before the one it needs.", where=repr(step.key))
            taken[step.key] += 1
            cost += step.cost
            values.append(step.value)
            bound = solve(self._table, cost, state_limit).bound
            out.append(relative_gap(math.fsum(values), bound))
        return out


def rank(ladders: Iterable[Ladder]) -> list[Step]:
    """`DiscreteDecisionEngine(ladders).rank()`."""
    return DiscreteDecisionEngine(ladders).rank()


def best(ladders: Iterable[Ladder], budget: int) -> Choice:
    """`DiscreteDecisionEngine(ladders).best(budget)`."""
    return DiscreteDecisionEngine(ladders).best(budget)


def gaps(order: Sequence[Step], ladders: Iterable[Ladder]) -> list[float]:
    """`DiscreteDecisionEngine(ladders).gaps(order)`."""
    return DiscreteDecisionEngine(ladders).gaps(order)


def relative_gap(value: float, best: float) -> float:
    """(best - value) / best; 0 where they are equal up to rounding, infinite where best is 0."""
    if best - value <= 1e-12 * max(abs(best), abs(value)):
        return 0.0
    return (best - value) / best if best > 0 else math.inf


def _check(ladder: Ladder) -> None:
    if not 1 <= len(ladder) <= MAX_LEVELS:
        raise UsageError(f"A ladder has 1 to {MAX_LEVELS} steps, not {len(ladder)}.")
    first = ladder[0]
    for index, step in enumerate(ladder):
        where = f"{step.key!r}, level {step.level}"
        if step.key != first.key or step.level != first.level + index:
            raise UsageError("A ladder has one key and climbs level by level.", where=where)
        if step.cost < 1:
            raise UsageError("A step must cost at least 1 byte.", where=where)
        if not math.isfinite(step.value):
            raise UsageError("The value of a step must be finite.", where=where)
