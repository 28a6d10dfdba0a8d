"""Plans: how many bits every part gets, foretold from the seed model's sensitivities."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2q.codec.layout import PanelLayout
from h2q.core.architecture import coded
from h2q.core.specs import PlaneSpec
from h2q.crystallize.allocate import (
    TOWERS,
    Judge,
    foretold_loss,
    groups,
    plan_for_bytes,
    plan_for_loss,
    plane_ladders,
    rates,
    stack_bytes,
)
from h2q.crystallize.growing import Grown
from h2q.crystallize.sensitivity import measure_sensitivity
from h2q.geometry.decision import DiscreteDecisionEngine, Step
from h2q.sources import Source
from planes import random_stack
from small_llamas import SMALL, small_llama


@pytest.fixture(scope="module")
def judge(seed_source: Source) -> Judge:
    tokens = np.random.default_rng(0).integers(0, 4096, (2, 64))
    return Judge(seed_source.spec, measure_sensitivity(seed_source, tokens, 0), 2.0, {})


def plan_bytes(judge: Judge, bits: dict[str, int]) -> int:
    return sum(stack_bytes(part, bits[part.name]) for part in coded(judge.spec))


def test_a_tower_costs_the_bytes_of_its_planes(judge: Judge) -> None:
    draw = np.random.default_rng(0)
    for part in coded(judge.spec)[:3]:
        for bits, tower in TOWERS.items():
            assert sum(tower) == bits
            planes = random_stack(draw, tower, *part.shape)
            assert stack_bytes(part, bits) == sum(plane.byte_count for plane in planes)


def test_more_bits_lose_less(judge: Judge) -> None:
    for part in coded(judge.spec):
        losses = [judge.foretold(part, bits) for bits in TOWERS]
        assert all(after < before for before, after in pairwise(losses))
        assert losses[-1] > 0


def test_budgets_hold_and_are_used(judge: Judge) -> None:
    """Ever more bytes, ever less loss, and hardly a byte left where another plane would fit."""
    floor = plan_bytes(judge, {part.name: 1 for part in coded(judge.spec)})
    ceiling = plan_bytes(judge, {part.name: max(TOWERS) for part in coded(judge.spec)})
    least = min(PanelLayout.of(PlaneSpec(1, *part.shape)).byte_count for part in coded(judge.spec))
    losses = []
    for budget in np.linspace(floor, ceiling, 9).astype(int).tolist():
        bits = plan_for_bytes(judge, budget)
        assert set(bits.values()) <= set(TOWERS)
        assert budget - 2 * least - 64 < plan_bytes(judge, bits) <= budget
        losses.append(foretold_loss(judge, bits))
    assert all(after < before for before, after in pairwise(losses))
    for bits in (plan_for_bytes(judge, 0), plan_for_bytes(judge, floor - 1)):
        assert set(bits.values()) == {1}  # nothing less is a model
    assert set(plan_for_bytes(judge, 10 * ceiling).values()) == {max(TOWERS)}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Of a model of 16 columns and rows: padding makes its rates cost alike."""
    spec = replace(SMALL, hidden_size=16, num_attention_heads=1, num_key_value_heads=1)
    source = small_llama(tmp_path_factory.mktemp("narrow") / "model", spec)
    tokens = np.random.default_rng(0).integers(0, spec.vocab_size, (2, 32))
    return Judge(spec, measure_sensitivity(source, tokens, 0), 2.0, {})


def test_rates_that_cost_no_more_than_lower_ones_take_their_place(narrow: Judge) -> None:
    tied = 0
    for part in coded(narrow.spec):
        sizes = [stack_bytes(part, bits) for bits in rates(part)]
        assert all(before < after for before, after in pairwise(sizes))
        for bits in TOWERS:
            better = min(rate for rate in rates(part) if rate >= bits)
            assert stack_bytes(part, better) <= stack_bytes(part, bits)
            tied += better != bits
    assert tied
    for budget in (0, 300_000, 10_000_000):
        bits = plan_for_bytes(narrow, budget)
        assert all(bits[part.name] in rates(part) for part in coded(narrow.spec))
    assert plan_bytes(narrow, plan_for_bytes(narrow, 300_000)) <= 300_000
    assert set(plan_for_loss(narrow, 0.0).values()) == {max(TOWERS)}


def test_a_smaller_loss_costs_more_bytes(judge: Judge) -> None:
    most = foretold_loss(judge, {part.name: 1 for part in coded(judge.spec)})
    sizes = []
    for share in (1.0, 0.6, 0.3, 0.1, 0.03, 0.01, 0.005):
        bits = plan_for_loss(judge, share * most)
        assert foretold_loss(judge, bits) <= share * most * (1 + 1e-9)
        sizes.append(plan_bytes(judge, bits))
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == len(sizes)
    assert set(plan_for_loss(judge, most).values()) == {1}
    assert set(plan_for_loss(judge, 0.0).values()) == {max(TOWERS)}


def test_both_plans_agree(judge: Judge) -> None:
    """The bytes of the plan for a loss buy no less than that loss."""
    most = foretold_loss(judge, {part.name: 1 for part in coded(judge.spec)})
    for share in (0.5, 0.1, 0.02):
        bits = plan_for_loss(judge, share * most)
        other = plan_for_bytes(judge, plan_bytes(judge, bits))
        assert foretold_loss(judge, other) <= foretold_loss(judge, bits) * (1 + 1e-9)


def test_measured_ladders_follow_the_costs(judge: Judge) -> None:
    """Steps are what planes took away from the rows' costs, weighed by the rows."""
    draw = np.random.default_rng(4)
    grown, heights = {}, {}
    for index, part in enumerate(coded(judge.spec)):
        tower = (2, 1, 1)[: 1 + index % 3]
        rows = part.shape[0]
        costs = np.sort(draw.random((len(tower) + 1, rows)), axis=0)[::-1]
        grown[part.name] = Grown(tuple(random_stack(draw, tower, rows, 16)), costs, (0.1,))
        heights[part.name] = len(tower)
    ladders = plane_ladders(judge, grown)
    assert {step.key for ladder in ladders for step in ladder} == {
        name for name, height in heights.items() if height > 1
    }
    table = {part.name: part for part in coded(judge.spec)}
    for ladder in ladders:
        for level, step in enumerate(ladder, 1):
            found, weights = grown[str(step.key)], judge.row_weights(table[str(step.key)])
            gain = float((found.costs[level] - found.costs[level + 1]) @ weights)
            assert (step.level, step.cost) == (level, found.planes[level].byte_count)
            assert step.value == pytest.approx(gain, rel=1e-6)
    ranked = DiscreteDecisionEngine(ladders).rank()
    assert len(ranked) == sum(height - 1 for height in heights.values())
    first = DiscreteDecisionEngine(plane_ladders(judge, grown, {3: 1e6})).rank()
    in_layer = [str(step.key).startswith("model.layers.3.") for step in first]
    assert in_layer == sorted(in_layer, reverse=True)  # what is unstable is refined first
    assert 0 < sum(in_layer) < len(first) == len(ranked)


@given(
    costs=st.lists(st.integers(1, 1000), max_size=40),
    count=st.integers(1, 9),
)
def test_groups_keep_the_order_and_are_even(costs: list[int], count: int) -> None:
    ranked = [Step(index, 1, cost, 1.0) for index, cost in enumerate(costs)]
    cut = groups(ranked, count)
    assert [step for group in cut for step in group] == ranked
    assert len(cut) <= count
    assert all(cut)
    share = sum(costs) / count
    for group in cut:
        assert sum(step.cost for step in group[:-1]) <= share
