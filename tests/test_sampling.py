"""The sampler draws from the distribution it claims to; each cut is what its naive form says."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2q.core.errors import KernelError, UsageError
from h2q.engine import Sampler, SamplingOptions
from h2q.engine.sampling import Distribution, log_softmax
from h2q.engine.sampling.cuts import largest, min_p, top_p, typical
from h2q.engine.sampling.penalties import Recent, penalized
from h2q.engine.sampling.sampler import drawn

SIZES = st.sampled_from([1, 2, 50, 3000, 40_000])


def scores_of(size: int, seed: int, spread: float = 2.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * spread).astype(np.float32)


def shares(sampler: Sampler, logits: list[float], draws: int = 20_000) -> np.ndarray:
    table = np.tile(np.array(logits, np.float32), (draws, 1))
    return np.bincount(sampler.choose(table), minlength=len(logits)) / draws


def test_greedy_takes_the_largest_and_the_first_of_equals() -> None:
    logits = np.array([[0.0, 2.0, 2.0], [5.0, 1.0, 0.0]], np.float32)
    assert Sampler(temperature=0).choose(logits).tolist() == [1, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_shares_follow_the_softmax(temperature: float) -> None:
    logits = [0.0, 1.0, 2.0, -3.0]
    expected = np.exp(np.array(logits) / temperature)
    found = shares(Sampler(temperature=temperature, seed=1), logits)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.015)


def test_top_k_and_top_p_cut_the_tail() -> None:
    logits = list(np.log([0.5, 0.3, 0.15, 0.05]))
    assert shares(Sampler(top_k=2, seed=2), logits)[2:].tolist() == [0, 0]
    np.testing.assert_allclose(
        shares(Sampler(top_p=0.75, seed=3), logits), [0.625, 0.375, 0, 0], atol=0.015
    )


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"min_p": 0.5}, 2),
        ({"min_p": 0.1}, 4),
        ({"min_p": 0.7}, 1),
        ({"min_p": 0.11, "temperature": 0.5}, 2),
        ({"top_p": 0.9, "min_p": 0.5}, 2),
        ({"top_k": 3, "min_p": 0.2}, 3),
        ({"typical_p": 0.2}, 1),
    ],
)
def test_other_cuts(options: dict[str, float], left: int) -> None:
    sampler = Sampler.of(SamplingOptions(seed=4, **options))  # type: ignore[arg-type]
    assert np.count_nonzero(shares(sampler, list(np.log([0.5, 0.3, 0.15, 0.05])), 1000)) == left


@settings(max_examples=40)
@given(SIZES, st.integers(0, 99), st.integers(1, 50_000))
def test_largest_are_those_of_a_sort(size: int, seed: int, count: int) -> None:
    scores = np.round(scores_of(size, seed), 1)  # with ties
    edge = np.sort(scores)[::-1][min(count, size) - 1]
    assert largest(scores, count).tolist() == np.flatnonzero(scores >= edge).tolist()


@settings(max_examples=40)
@given(SIZES, st.integers(0, 99), st.floats(0.01, 0.99), st.floats(0.01, 8))
def test_a_nucleus_is_the_shortest_head_that_has_the_share(
    size: int, seed: int, share: float, spread: float
) -> None:
    scores = scores_of(size, seed, spread)
    weights = np.exp(scores - scores.max())
    kept = top_p(scores, weights, share)
    wide = weights.astype(np.float64)
    total = wide.sum()
    assert wide[kept].sum() >= share * total * (1 - 1e-9)
    assert wide[kept].sum() - wide[kept].min() < share * total * (1 + 1e-9)
    assert scores[kept].min() >= np.delete(scores, kept).max(initial=-np.inf)
    assert (np.diff(kept) > 0).all()


@settings(max_examples=40)
@given(SIZES, st.integers(0, 99), st.floats(0.01, 0.99))
def test_typical_tokens_are_nearest_to_the_entropy(size: int, seed: int, share: float) -> None:
    scores = scores_of(size, seed)
    kept = typical(scores, np.exp(scores - scores.max()), share)
    logs = log_softmax(scores)
    distance = np.abs(-logs + (np.exp(logs) * logs).sum())
    mass = np.exp(logs)
    assert mass[kept].sum() >= share - 1e-5
    assert distance[kept].max() <= np.delete(distance, kept).min(initial=np.inf) + 1e-4
    assert len(kept) == 1 or mass[kept].sum() - mass[kept[distance[kept].argmax()]] < share + 1e-5


@settings(max_examples=40)
@given(SIZES, st.integers(0, 99), st.floats(0.001, 1))
def test_min_p_compares_with_the_likeliest(size: int, seed: int, share: float) -> None:
    scores = scores_of(size, seed)
    odds = np.exp(scores.astype(np.float64) - scores.max())
    kept = np.zeros(size, bool)
    kept[min_p(scores, share)] = True
    clear = np.abs(odds - share) > 1e-5
    assert (kept == (odds >= share))[clear].all()


@given(st.integers(-1, 9), st.lists(st.integers(0, 6), max_size=200))
def test_counts_of_the_last_tokens(window: int, tokens: list[int]) -> None:
    recent = Recent(window)
    recent.extend(tokens)
    expected = Counter(tokens if window < 0 else tokens[len(tokens) - min(window, len(tokens)) :])
    ids, counts = recent.counts()
    assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == expected


def test_penalties() -> None:
    values = np.array([2.0, -2.0], np.float32)
    found = penalized(values, np.array([1, 3]), repeat=2.0, presence=0.5, frequency=0.25)
    assert found.tolist() == [2 / 2 - 0.5 - 0.25, -4 - 0.5 - 0.75]


def test_what_was_said_is_said_less() -> None:
    logits = np.array([1.0, 0.9, 0.8], np.float32)
    sampler = Sampler.of(SamplingOptions(temperature=0, presence_penalty=0.5), prompt=[0])
    said = []
    for _ in range(3):
        said.append(sampler.step(logits))
        sampler.accept(said[-1])
    assert said == [1, 2, 0]
    assert logits.tolist() == np.array([1.0, 0.9, 0.8], np.float32).tolist()  # left as they were


def test_a_bias_moves_tokens() -> None:
    logits = np.zeros(4, np.float32)
    options = SamplingOptions(temperature=0, logit_bias={3: 5, 1: -7})  # type: ignore[arg-type]
    assert Sampler.of(options).step(logits) == 3
    with pytest.raises(UsageError, match="logit_bias names token 3"):
        Sampler.of(options).step(logits[:3])


def test_only_allowed_tokens_are_chosen() -> None:
    allowed = np.array([False, True, True, False])
    logits = np.tile(np.array([9.0, 1.0, 1.0, 9.0], np.float32), (200, 1))
    for options in ({"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.5}):
        chosen = Sampler(seed=1, **options).choose(logits, allowed)  # type: ignore[arg-type]
        assert set(chosen.tolist()) <= {1, 2}
    with pytest.raises(UsageError, match="no token"):
        Sampler().step(logits[0], np.zeros(4, bool))


def test_a_seed_repeats_itself_whatever_others_draw() -> None:
    logits = np.random.default_rng(0).standard_normal((50, 30)).astype(np.float32)
    alone = Sampler(seed=9).choose(logits).tolist()
    one, other = Sampler(seed=9), Sampler(seed=10)
    mixed = []
    for row in logits:
        other.step(row)
        mixed.append(one.step(row))
        other.step(row)
    assert mixed == alone
    assert Sampler(seed=8).choose(logits).tolist() != alone


@settings(max_examples=40)
@given(SIZES, st.integers(0, 99), st.floats(0, 1, exclude_max=True))
def test_a_draw_is_where_the_cumulative_sum_says(size: int, seed: int, uniform: float) -> None:
    weights = np.exp(scores_of(size, seed))
    at = drawn(weights, uniform)
    sums = np.cumsum(weights, dtype=np.float64)
    assert sums[at] >= uniform * sums[-1] * (1 - 1e-6)
    assert (sums[at] - weights[at]) <= uniform * sums[-1] * (1 + 1e-6)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_a_token_without_weight_is_never_drawn(uniform: float) -> None:
    weights = np.zeros(5000, np.float32)
    weights[[700, 4000]] = 1e-30
    assert drawn(weights, uniform) in (700, 4000)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": "1"},
        {"temperature": True},
        {"top_k": -1},
        {"top_k": 1 << 80},
        {"top_k": 2.5},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_p": float("nan")},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"typical_p": 0},
        {"repeat_penalty": 0},
        {"repeat_penalty": float("inf")},
        {"presence_penalty": float("nan")},
        {"frequency_penalty": 1e300},
        {"repeat_last_n": -2},
        {"repeat_last_n": 10**12},
        {"seed": -4},
        {"seed": 1 << 64},
        {"seed": 1.5},
        {"max_tokens": -1},
        {"max_tokens": 10**12},
        {"top_logprobs": 21},
        {"top_logprobs": -1},
        {"stop": ("",)},
        {"stop": 5},
        {"stop": (5,)},
        {"stop": ("x",) * 65},
        {"stop": "x" * 5000},
        {"logit_bias": {-1: 1}},
        {"logit_bias": {"a": 1}},
        {"logit_bias": {1: float("nan")}},
        {"logit_bias": {1: 101}},
        {"logit_bias": {1.5: 1}},
        {"logit_bias": ((1, 2.0), (1, 3.0))},
        {"logit_bias": 7},
        {"logit_bias": dict.fromkeys(range(2000), 1)},
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        SamplingOptions(**options)
    assert caught.value.where in options
    assert next(iter(options)) in str(caught.value)
    assert len(str(caught.value)) < 300


def test_options_can_be_said_in_other_forms() -> None:
    options = SamplingOptions(stop="end", logit_bias={7: 1, 2: -1}, seed=-1)  # type: ignore[arg-type]
    assert options.stop == ("end",)
    assert options.logit_bias == ((2, -1.0), (7, 1.0))
    assert hash(options) == hash(options)
    assert len(fields(options)) == 14
    Sampler.of(options)


def test_log_softmax_sums_to_one() -> None:
    logits = np.array([[1000.0, 999.0, -1000.0]], np.float32)
    assert np.exp(log_softmax(logits)).sum() == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=40)
@given(SIZES, st.integers(0, 99), st.integers(0, 20))
def test_likelihood_is_that_of_the_whole_distribution(size: int, seed: int, count: int) -> None:
    logits = scores_of(size, seed) + np.float32(50)
    logs = log_softmax(logits)
    found = Distribution(logits, count).of(size // 2, count)
    assert found.logprob == pytest.approx(logs[size // 2], abs=1e-5)
    assert found.entropy == pytest.approx(-(np.exp(logs) * logs).sum(), abs=1e-4)
    order = np.argsort(-logits, kind="stable")[: min(count, size)]
    assert [token for token, _ in found.top] == order.tolist()
    np.testing.assert_allclose([value for _, value in found.top], logs[order], atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error(bad: float) -> None:
    logits = np.array([0.0, bad, 1.0], np.float32)
    with pytest.raises(KernelError, match="finite"):
        Sampler().step(logits)
    with pytest.raises(KernelError, match="finite"):
        Distribution(logits)
    forbidden = Distribution(np.array([0.0, -np.inf], np.float32), 2).of(0, 2)
    assert forbidden.entropy == 0.0
