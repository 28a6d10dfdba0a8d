"""The sampler draws from the distribution it claims to."""

from __future__ import annotations

import numpy as np
import pytest

from h2q.core.errors import UsageError
from h2q.engine import Sampler
from h2q.engine.sampling import log_softmax


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


def test_a_seed_repeats_itself() -> None:
    logits = np.random.default_rng(0).standard_normal((50, 30)).astype(np.float32)
    one, two = Sampler(seed=9), Sampler(seed=9)
    assert one.choose(logits).tolist() == two.choose(logits).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"seed": -4},
    ],
)
def test_senseless_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Sampler(**options)  # type: ignore[arg-type]


def test_log_softmax_sums_to_one() -> None:
    logits = np.array([[1000.0, 999.0, -1000.0]], np.float32)
    assert np.exp(log_softmax(logits)).sum() == pytest.approx(1.0, abs=1e-12)
