"""The decision engine against brute force, and the laws of its ranking."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import h2q
from h2q.core.errors import UsageError
from h2q.geometry.decision import DiscreteDecisionEngine, Ladder, Step, best, gaps, rank

VALUES = st.one_of(
    st.integers(-8, 16).map(float),  # ties
    st.floats(-4, 16, allow_nan=False).map(lambda value: round(value, 6)),
)
COSTS = st.one_of(st.integers(1, 9), st.integers(1, 9).map(lambda units: units * 64))


@st.composite
def ladders(draw: st.DrawFn, most: int = 6) -> list[Ladder]:
    out: list[Ladder] = []
    for key in range(draw(st.integers(0, most))):
        rows = draw(st.lists(st.tuples(COSTS, VALUES), min_size=1, max_size=4))
        first = draw(st.integers(0, 2))
        out.append([Step(key, first + level, *row) for level, row in enumerate(rows)])
    return out


def choices(some: list[Ladder]) -> Iterator[list[Step]]:
    """Every set of steps that holds precedence."""
    for levels in itertools.product(*(range(len(ladder) + 1) for ladder in some)):
        yield [step for ladder, n in zip(some, levels, strict=True) for step in ladder[:n]]


def brute(some: list[Ladder], budget: int) -> float:
    return max(
        math.fsum(step.value for step in steps)
        for steps in choices(some)
        if sum(step.cost for step in steps) <= budget
    )


def holds_precedence(steps: list[Step] | frozenset[Step], some: list[Ladder]) -> bool:
    return all(
        step in steps or not any(later in steps for later in ladder[index:])
        for ladder in some
        for index, step in enumerate(ladder)
    )


@given(ladders(), st.integers(0, 2000))
def test_the_best_choice_is_that_of_brute_force(some: list[Ladder], budget: int) -> None:
    found = best(some, budget)
    assert found.value == pytest.approx(brute(some, budget), rel=1e-9, abs=1e-9)
    assert found.gap == 0
    assert found.cost == sum(step.cost for step in found.steps) <= budget
    assert found.value == pytest.approx(math.fsum(step.value for step in found.steps), abs=1e-12)
    assert holds_precedence(found.steps, some)


@given(ladders(), st.integers(0, 2000), st.integers(1, 6))
def test_a_search_cut_short_declares_its_gap(some: list[Ladder], budget: int, limit: int) -> None:
    found = DiscreteDecisionEngine(some).best(budget, state_limit=limit)
    optimum = brute(some, budget)
    assert found.value <= optimum + 1e-9
    assert optimum <= found.bound + 1e-9
    assert found.cost <= budget
    assert holds_precedence(found.steps, some)


@given(ladders())
def test_a_ranking_holds_every_step_once_and_in_precedence(some: list[Ladder]) -> None:
    order = rank(some)
    assert sorted(order, key=repr) == sorted((s for ladder in some for s in ladder), key=repr)
    for size in range(len(order)):
        assert holds_precedence(order[:size], some)
    assert rank(some) == order


@given(ladders())
def test_the_prefixes_of_a_ranking_lie_below_a_concave_line_of_best_choices(
    some: list[Ladder],
) -> None:
    """The upper hull of (cost, value) over all prefixes is concave by nature; its corners are ends
    of segments, and there, while slopes are positive, the prefix is the best of its size.
    """
    points = [(0, 0.0)]
    for step in rank(some):
        points.append((points[-1][0] + step.cost, points[-1][1] + step.value))
    at, slope = 0, math.inf
    while at < len(points) - 1:
        here = points[at]
        slopes = [(p[1] - here[1]) / (p[0] - here[0]) for p in points[at + 1 :]]
        slope_now = max(slopes)
        assert slope_now <= slope + 1e-9
        at, slope = at + 1 + slopes.index(slope_now), slope_now
        if slope <= 0:
            break
        assert points[at][1] == pytest.approx(brute(some, points[at][0]), abs=1e-9)


@given(ladders(4))
def test_gaps_are_those_of_brute_force(some: list[Ladder]) -> None:
    order = rank(some)
    found = gaps(order, some)
    for size, gap in enumerate(found, 1):
        optimum = brute(some, sum(step.cost for step in order[:size]))
        value = math.fsum(step.value for step in order[:size])
        if optimum - value < 1e-9:
            assert gap == pytest.approx(0, abs=1e-6) or optimum < 1e-3
        elif optimum <= 0:
            assert gap == math.inf
        else:
            assert gap == pytest.approx((optimum - value) / optimum, rel=1e-6)


def test_steps_of_a_segment_stay_together() -> None:
    """A step of little value that leads to a good one is worth both together."""
    slow = [Step("slow", 1, 64, 1.0), Step("slow", 2, 64, 9.0)]
    fast = [Step("fast", 1, 64, 8.0), Step("fast", 2, 64, 2.0)]
    assert [(s.key, s.level) for s in rank([slow, fast])] == [
        ("fast", 1),
        ("slow", 1),
        ("slow", 2),
        ("fast", 2),
    ]
    assert gaps(rank([slow, fast]), [slow, fast]) == [0, pytest.approx(0.1), 0, 0]


def test_a_model_of_many_gigabytes_is_decided_within_a_small_gap() -> None:
    """As large as it gets: 800 matrices, four levels, costs in multiples of 64 bytes."""
    draw = np.random.default_rng(3)
    some = []
    for key in range(800):
        units = int(draw.integers(1 << 10, 1 << 20))
        values = draw.exponential(units, 4) * 0.4 ** np.arange(4) - 0.01 * units
        some.append([Step(key, n, 64 * units, float(v)) for n, v in enumerate(values, 1)])
    engine = DiscreteDecisionEngine(some)
    total = sum(step.cost for ladder in some for step in ladder)
    assert total > 50 << 30
    for share in (0.05, 0.4, 0.8):
        found = engine.best(int(total * share))
        assert found.cost <= total * share
        assert holds_precedence(found.steps, some)
        assert found.gap < 1e-6
    order = engine.rank()
    cost, value = 0, 0.0
    for step in order[:400]:
        cost, value = cost + step.cost, value + step.value
    assert value >= 0.99 * engine.best(cost).value


@pytest.mark.parametrize(
    "some",
    [
        [[]],
        [[Step("a", 1, 0, 1.0)]],
        [[Step("a", 1, -64, 1.0)]],
        [[Step("a", 1, 64, math.nan)]],
        [[Step("a", 1, 64, math.inf)]],
        [[Step("a", 1, 64, 1.0), Step("a", 3, 64, 1.0)]],
        [[Step("a", 1, 64, 1.0), Step("b", 2, 64, 1.0)]],
        [[Step("a", 1, 64, 1.0)], [Step("a", 2, 64, 1.0)]],
        [[Step("a", 1, 1 << 62, 1.0)]],
        [[Step("a", level, 64, 1.0) for level in range(200)]],
    ],
)
def test_ladders_that_are_none(some: list[Ladder]) -> None:
    with pytest.raises(UsageError):
        rank(some)


def test_orders_and_budgets_that_are_none() -> None:
    ladder = [Step("a", 1, 64, 1.0), Step("a", 2, 64, 1.0)]
    for order in (ladder[::-1], [*ladder, ladder[1]], [Step("b", 1, 64, 1.0)]):
        with pytest.raises(UsageError, match="before the one it needs"):
            gaps(order, [ladder])
    with pytest.raises(UsageError, match="at least 0"):
        best([ladder], -1)


def test_the_public_name() -> None:
    assert h2q.DiscreteDecisionEngine is DiscreteDecisionEngine
