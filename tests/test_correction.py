"""Corrected targets: W* is the least squares answer it says it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from h2q.crystallize import correction
from h2q.crystallize.correction import Inputs
from h2q.crystallize.factor import NARROW

TOKENS, WIDTH, RIDGE = 90, 24, 0.1
ROWS = (8, 24, 40)  # fewer than the width, as many, more: both orders of the products


def streams(rows: int, adds: bool) -> tuple[Inputs, np.ndarray]:
    """A crystal's input that differs from the original's by noise and a gain, and weights."""
    draw = np.random.default_rng(rows)
    uneven = np.exp(draw.standard_normal(WIDTH))
    original = (draw.standard_normal((TOKENS, WIDTH)) * uneven).astype(np.float32)
    noise = 0.2 * draw.standard_normal((TOKENS, WIDTH))
    crystal = (0.9 * original + noise * uneven).astype(np.float32)
    weights = draw.standard_normal((rows, WIDTH)).astype(np.float32)
    drift = draw.standard_normal((TOKENS, rows)).astype(np.float32) if adds else None
    return Inputs("in", original, crystal, drift, RIDGE), weights


def corrected(inputs: Inputs, weights: np.ndarray) -> np.ndarray:
    """W*; the inputs stay."""
    own = replace(inputs, original=inputs.original.copy())
    (found,) = correction.corrected(own, [weights.copy()]).weights
    assert not len(own.original)
    return found


def ridge(inputs: Inputs) -> float:
    """The absolute strength, from the inputs themselves."""
    return inputs.ridge * float(np.mean(inputs.crystal.astype(np.float64) ** 2))


def answers(inputs: Inputs, weights: np.ndarray) -> np.ndarray:
    """What W* should say to the crystal's inputs, float64."""
    wanted = inputs.original.astype(np.float64) @ weights.T.astype(np.float64)
    return wanted if inputs.drift is None else wanted + inputs.drift


def loss(inputs: Inputs, weights: np.ndarray, found: np.ndarray) -> float:
    """mean |W x + r - W* x'|^2 + ridge |W* - W|^2, float64."""
    missed = answers(inputs, weights) - inputs.crystal.astype(np.float64) @ found.T
    moved = found.astype(np.float64) - weights
    return float((missed**2).sum() / TOKENS + ridge(inputs) * (moved**2).sum())


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("rows", ROWS)
def test_it_is_the_least_squares_answer(rows: int, adds: bool) -> None:
    inputs, weights = streams(rows, adds)
    strength = np.sqrt(TOKENS * ridge(inputs))
    left = np.concatenate([inputs.crystal.astype(np.float64), strength * np.eye(WIDTH)])
    right = np.concatenate([answers(inputs, weights), strength * weights.T])
    known = np.linalg.lstsq(left, right, rcond=None)[0].T
    found = corrected(inputs, weights)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, known, atol=1e-4 * np.abs(known).max())
    assert loss(inputs, weights, found) < 0.9 * loss(inputs, weights, weights)


def test_wide_inputs_share_one_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, weights = streams(24, False)
    known = corrected(inputs, weights)
    monkeypatch.setattr(correction, "NARROW", WIDTH - 1)
    found = corrected(Inputs("in", inputs.original, inputs.crystal, None, RIDGE), weights)
    assert not np.array_equal(found, known)  # another order of sums
    np.testing.assert_allclose(found, known, atol=1e-4)


@pytest.mark.parametrize("adds", [False, True])
def test_no_step_away_from_it_is_better(adds: bool) -> None:
    inputs, weights = streams(12, adds)
    found = corrected(inputs, weights).astype(np.float64)
    least = loss(inputs, weights, found)
    draw = np.random.default_rng(7)
    for size in (1e-2, 1e-1):
        step = size * draw.standard_normal((20, *found.shape))
        for way in step:
            assert loss(inputs, weights, found + way) > least
            assert loss(inputs, weights, found - way) > least


def test_a_matrix_of_many_rows_is_corrected_row_by_row() -> None:
    """The rows of a tall matrix get what they would get in a low one, by the other order of the
    products.
    """
    inputs, weights = streams(40, True)
    whole = corrected(inputs, weights)
    assert inputs.drift is not None
    for begin in range(0, 40, 10):
        rows = slice(begin, begin + 10)
        own = Inputs("in", inputs.original, inputs.crystal, inputs.drift[:, rows], RIDGE)
        np.testing.assert_allclose(corrected(own, weights[rows]), whole[rows], atol=2e-5)


def test_where_nothing_is_off_nothing_moves() -> None:
    inputs, weights = streams(16, False)
    same = Inputs("in", inputs.crystal, inputs.crystal, None, RIDGE)
    np.testing.assert_array_equal(corrected(same, weights), weights)
    silent = Inputs("in", inputs.crystal, inputs.crystal, np.zeros((TOKENS, 16), np.float32), RIDGE)
    np.testing.assert_array_equal(corrected(silent, weights), weights)


def test_a_large_ridge_holds_the_weights() -> None:
    inputs, weights = streams(16, True)
    held = Inputs("in", inputs.original, inputs.crystal, inputs.drift, 1e6)
    np.testing.assert_allclose(corrected(held, weights), weights, atol=1e-4)


def test_fewer_tokens_than_columns() -> None:
    """The normal equations hold: step (H' + ridge) = W D + R, where only the ridge makes H' whole
    and blocks solve for the step.
    """
    tokens, width, draw = 50, NARROW + 80, np.random.default_rng(5)
    original = draw.standard_normal((tokens, width), np.float32)
    crystal = original + np.float32(0.3) * draw.standard_normal((tokens, width), np.float32)
    drift = draw.standard_normal((tokens, 4), np.float32)
    weights = draw.standard_normal((4, width), np.float32)
    step = (corrected(Inputs("in", original, crystal, drift, RIDGE), weights) - weights).astype(
        float
    )
    x = crystal.astype(float)
    missed = (original.astype(float) - x) @ weights.T + drift
    right = missed.T @ x / tokens
    left = step @ x.T @ x / tokens + RIDGE * np.mean(x**2) * step
    np.testing.assert_allclose(left, right, atol=2e-3 * np.abs(right).max())


def test_wide_matrices_are_judged_by_a_choice_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, weights = streams(8, False)
    crystal = inputs.crystal
    assert correction.corrected(replace(inputs), [weights]).chosen is None
    monkeypatch.setattr(correction, "WIDE", WIDTH - 1)
    monkeypatch.setattr(correction, "MOST_JUDGES", TOKENS // 2)
    chosen = correction.corrected(inputs, [weights]).chosen
    np.testing.assert_array_equal(chosen, crystal[::2])


def test_matrices_of_one_input_are_corrected_together() -> None:
    inputs, weights = streams(40, False)
    own = [corrected(inputs, rows) for rows in (weights, weights[:8])]
    found = correction.corrected(inputs, [weights.copy(), weights[:8].copy()]).weights
    for one, other in zip(found, own, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
