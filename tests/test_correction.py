"""Corrected targets: W* is the least squares answer it says it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from h2q.crystallize import correction
from h2q.crystallize.correction import FEW, Inputs
from h2q.crystallize.factor import NARROW
from h2q.crystallize.moments import feedback

TOKENS, WIDTH, RIDGE, DAMPING = 250, 24, 0.1, 0.6
ROWS = (8, 24, 40)  # fewer than the width, as many, more


@dataclass(frozen=True)
class Streams:
    """What the original and the crystal send, and what the stream lacks where the answer is added
    to one.
    """

    original: np.ndarray
    crystal: np.ndarray
    drift: np.ndarray | None = None
    ridge: float = RIDGE

    def inputs(self, weights: np.ndarray) -> Inputs:
        """For one matrix; the streams stay."""
        given = Inputs("in", self.crystal, self.ridge, DAMPING)
        if self.drift is None:
            given.original = self.original.copy()
        else:
            given.wanted = self.original @ weights.T + self.drift
        return given

    def answers(self, weights: np.ndarray) -> np.ndarray:
        """What W* should say to the crystal's inputs, float64."""
        wanted = self.original.astype(np.float64) @ weights.T.astype(np.float64)
        return wanted if self.drift is None else wanted + self.drift

    def strength(self) -> float:
        """The absolute ridge, from the inputs themselves."""
        return self.ridge * float(np.mean(self.crystal.astype(np.float64) ** 2))


def streams(rows: int, adds: bool) -> tuple[Streams, np.ndarray]:
    """A crystal's input that differs from the original's by noise and a gain, and weights."""
    draw = np.random.default_rng(rows)
    uneven = np.exp(draw.standard_normal(WIDTH))
    original = (draw.standard_normal((TOKENS, WIDTH)) * uneven).astype(np.float32)
    noise = 0.2 * draw.standard_normal((TOKENS, WIDTH))
    crystal = (0.9 * original + noise * uneven).astype(np.float32)
    weights = draw.standard_normal((rows, WIDTH)).astype(np.float32)
    if not adds:
        return Streams(original, crystal), weights
    lost = crystal @ draw.standard_normal((WIDTH, rows))
    drift = (lost + draw.standard_normal((TOKENS, rows))).astype(np.float32)
    return Streams(original, crystal, drift), weights


def corrected(given: Streams, weights: np.ndarray) -> np.ndarray:
    """W*."""
    inputs = given.inputs(weights)
    (found,) = correction.corrected(inputs, [weights.copy()]).weights
    assert not len(inputs.crystal)
    assert inputs.original is inputs.wanted is None
    return found


def loss(given: Streams, weights: np.ndarray, found: np.ndarray) -> float:
    """mean |y - W* x'|^2 + ridge |W* - W|^2, float64."""
    missed = given.answers(weights) - given.crystal.astype(np.float64) @ found.T
    moved = found.astype(np.float64) - weights
    return float((missed**2).sum() / TOKENS + given.strength() * (moved**2).sum())


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("rows", ROWS)
def test_it_is_the_least_squares_answer(rows: int, adds: bool) -> None:
    given, weights = streams(rows, adds)
    strength = np.sqrt(TOKENS * given.strength())
    left = np.concatenate([given.crystal.astype(np.float64), strength * np.eye(WIDTH)])
    right = np.concatenate([given.answers(weights), strength * weights.T])
    known = np.linalg.lstsq(left, right, rcond=None)[0].T
    found = corrected(given, weights)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, known, atol=1e-4 * np.abs(known).max())
    assert loss(given, weights, found) < 0.9 * loss(given, weights, weights)


@pytest.mark.parametrize("adds", [False, True])
def test_no_step_away_from_it_is_better(adds: bool) -> None:
    given, weights = streams(12, adds)
    found = corrected(given, weights).astype(np.float64)
    least = loss(given, weights, found)
    draw = np.random.default_rng(7)
    for size in (1e-2, 1e-1):
        step = size * draw.standard_normal((20, *found.shape))
        for way in step:
            assert loss(given, weights, found + way) > least
            assert loss(given, weights, found - way) > least


def test_both_ways_to_it_are_one() -> None:
    """A matrix whose stream lacks nothing gets what one that adds to no stream gets."""
    given, weights = streams(24, False)
    silent = replace(given, drift=np.zeros((TOKENS, 24), np.float32))
    np.testing.assert_allclose(corrected(silent, weights), corrected(given, weights), atol=2e-5)


def test_a_matrix_of_many_rows_is_corrected_row_by_row() -> None:
    """The rows of a tall matrix get what they would get in a low one."""
    given, weights = streams(40, True)
    whole = corrected(given, weights)
    assert given.drift is not None
    for begin in range(0, 40, 10):
        rows = slice(begin, begin + 10)
        own = replace(given, drift=given.drift[:, rows])
        np.testing.assert_allclose(corrected(own, weights[rows]), whole[rows], atol=2e-5)


def test_where_nothing_is_off_nothing_moves() -> None:
    given, weights = streams(16, False)
    same = replace(given, original=given.crystal)
    np.testing.assert_array_equal(corrected(same, weights), weights)
    silent = replace(same, drift=np.zeros((TOKENS, 16), np.float32))
    np.testing.assert_allclose(corrected(silent, weights), weights, atol=1e-5)


def test_a_large_ridge_holds_the_weights() -> None:
    given, weights = streams(16, True)
    held = replace(given, ridge=1e6)
    np.testing.assert_allclose(corrected(held, weights), weights, atol=1e-4)


@pytest.mark.parametrize("adds", [False, True])
def test_fewer_tokens_than_columns(adds: bool) -> None:
    """The normal equations hold: step (H' + ridge) = W D + R, where only the ridge makes H' whole
    and blocks solve for it.
    """
    tokens, width, draw = 50, NARROW + 80, np.random.default_rng(5)
    original = draw.standard_normal((tokens, width), np.float32)
    crystal = original + np.float32(0.3) * draw.standard_normal((tokens, width), np.float32)
    drift = draw.standard_normal((tokens, 4), np.float32) if adds else None
    weights = draw.standard_normal((4, width), np.float32)
    step = (corrected(Streams(original, crystal, drift), weights) - weights).astype(float)
    x = crystal.astype(float)
    missed = (original.astype(float) - x) @ weights.T + (0 if drift is None else drift)
    right = missed.T @ x / tokens
    ridge = FEW * width / tokens  # more than RIDGE
    left = step @ x.T @ x / tokens + ridge * np.mean(x**2) * step
    np.testing.assert_allclose(left, right, atol=2e-3 * np.abs(right).max())


def test_wide_matrices_are_judged_by_a_choice_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    given, weights = streams(8, False)
    assert correction.corrected(given.inputs(weights), [weights]).chosen is None
    monkeypatch.setattr(correction, "WIDE", WIDTH - 1)
    monkeypatch.setattr(correction, "MOST_JUDGES", TOKENS // 2)
    chosen = correction.corrected(given.inputs(weights), [weights]).chosen
    np.testing.assert_array_equal(chosen, given.crystal[::2])


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("tokens", [TOKENS, WIDTH + 4])
def test_one_factor_of_a_wide_input_serves_for_both(
    tokens: int, adds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With so few tokens that the ridge comes near the damping, it is the damping; else the
    feedback has a factor of its own.
    """
    given, weights = streams(16, adds)
    drift = None if given.drift is None else given.drift[:tokens]
    given = Streams(given.original[:tokens], given.crystal[:tokens], drift)
    near = FEW * WIDTH / tokens > DAMPING / 2
    known = corrected(replace(given, ridge=DAMPING) if near else given, weights)
    monkeypatch.setattr(correction, "WIDE", WIDTH - 1)
    found = correction.corrected(given.inputs(weights), [weights.copy()])
    np.testing.assert_allclose(found.weights[0], known, atol=1e-4)
    assert list(found.shapes) == [DAMPING] * near
    for damping, shape in found.shapes.items():
        np.testing.assert_allclose(shape, feedback(found.moments, damping), atol=1e-5)


def test_matrices_of_one_input_are_corrected_together() -> None:
    given, weights = streams(40, False)
    own = [corrected(given, rows) for rows in (weights, weights[:8])]
    both = [weights.copy(), weights[:8].copy()]
    found = correction.corrected(given.inputs(weights), both).weights
    for one, other in zip(found, own, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
