"""Spectra by their laws: Weyl, the trace formula of Krein, growth of linear maps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2q.core.errors import KernelError
from h2q.crystallize.towers import Matrix, TowerPlan, encode_tower
from h2q.geometry.rotation import rotate, rotation
from h2q.geometry.spectrum import (
    SpectralShift,
    growth_exponent,
    incoherence,
    singular_values,
    sketch,
    spectral_shift,
    weyl,
)

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
noises = st.just(0.0) | st.floats(1e-3, 10)  # none, or more than the rounding of a Gram matrix


def pair(shape: tuple[int, int], seed: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    one = rng.standard_normal(shape)
    return one, one + noise * rng.standard_normal(shape)


@settings(deadline=None)
@given(shape=shapes, seed=st.integers(0, 1 << 30))
def test_singular_values_are_those_of_the_decomposition(shape: tuple[int, int], seed: int) -> None:
    matrix, _ = pair(shape, seed)
    expected = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(singular_values(matrix), expected, atol=1e-6 * expected[0])


@settings(deadline=None)
@given(shape=shapes, seed=st.integers(0, 1 << 30), noise=noises)
def test_weyl_bounds_every_move(shape: tuple[int, int], seed: int, noise: float) -> None:
    one, two = pair(shape, seed, noise)
    found = weyl(one, two)
    assert found.holds
    rounding = 1e-14 * float(np.linalg.norm(one) + np.linalg.norm(two))  # of the values themselves
    assert found.shift <= found.bound * (1 + 1e-6) + rounding


def test_a_broken_weyl_bound_would_be_seen() -> None:
    from h2q.geometry.spectrum import Weyl

    assert not Weyl(shift=1.001, bound=1.0).holds


@settings(deadline=None)
@given(shape=shapes, seed=st.integers(0, 1 << 30), power=st.integers(1, 6))
def test_the_trace_formula(shape: tuple[int, int], seed: int, power: int) -> None:
    """tr(B^p - A^p), by products of the whole matrices, is the integral of p x^(p-1) xi(x)."""
    one, two = pair(shape, seed)
    shift = spectral_shift(one, two)
    a, b = one.T @ one, two.T @ two
    powers = [np.trace(np.linalg.matrix_power(m, power)) for m in (b, a)]
    expected = powers[0] - powers[1]
    found = shift.integral(lambda x: power * x ** (power - 1))
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-8 * sum(powers))


@settings(deadline=None)
@given(shape=shapes, seed=st.integers(0, 1 << 30))
def test_the_integral_of_the_shift_is_the_move_of_the_eigenvalues(
    shape: tuple[int, int], seed: int
) -> None:
    """And at most the nuclear norm of B - A (Lidskii)."""
    one, two = pair(shape, seed)
    shift = spectral_shift(one, two)
    assert shift.total == pytest.approx(np.abs(shift.before - shift.after).sum(), rel=1e-9)
    nuclear = np.abs(np.linalg.eigvalsh(two.T @ two - one.T @ one)).sum()
    assert shift.total <= nuclear * (1 + 1e-9) + 1e-12
    assert 0 <= shift.largest <= min(shape)


def test_a_shift_worked_out_by_hand() -> None:
    shift = SpectralShift(np.array([1.0, 2.0, 9.0]), np.array([1.0, 4.0, 5.0]))
    assert shift(np.array([0.5, 1.0, 2.0, 3.0, 4.5, 6.0, 9.0])).tolist() == [0, 0, 1, 1, 0, -1, 0]
    assert shift.total == 2 + 4
    assert shift.largest == 1
    assert shift.singular_shift == pytest.approx(
        (2 - np.sqrt(2) + 3 - np.sqrt(5)) / (1 + np.sqrt(2) + 3)
    )
    highest, curve = shift.curve(6)
    assert highest == 3
    assert curve == [0, 0, 0, 1, -1, -1]  # at the squares of 0.25, 0.75, ... 2.75


def test_the_shift_vanishes_as_planes_are_added() -> None:
    weights = np.random.default_rng(3).standard_normal((64, 128)).astype(np.float32)
    tower = encode_tower(Matrix("w", weights), TowerPlan((2, 2, 2), (0.1,) * 3))
    totals = [spectral_shift(weights, weights - e.rest).total for e in tower]
    assert all(after < 0.6 * before for before, after in pairwise(totals))
    same = spectral_shift(weights, weights)
    assert (same.total, same.largest, same.singular_shift) == (0.0, 0, 0.0)
    assert not any(same.curve()[1])


def test_rotating_keeps_the_spectrum_and_lowers_the_incoherence() -> None:
    weights = np.random.default_rng(4).standard_normal((96, 256)).astype(np.float32)
    weights[:, 7] *= 40
    turned = rotate(weights, rotation(5, 256))
    assert spectral_shift(weights, turned).singular_shift < 1e-6
    assert incoherence(turned) < 0.5 * incoherence(weights)
    assert incoherence(np.ones((3, 5), np.float32)) == pytest.approx(1)
    assert incoherence(np.zeros((2, 2), np.float32)) == 0


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (30, 20)])
def test_a_sketch_is_bounded_seeded_and_cuts_both_alike(shape: tuple[int, int]) -> None:
    chosen = sketch(shape, 1, short=32, long=64)
    one, two = (matrix.astype(np.float32) for matrix in pair(shape, 5))
    part = chosen.of(one)
    assert sorted(part.shape) == sorted((min(min(shape), 32), min(max(shape), 64)))
    np.testing.assert_array_equal(part, sketch(shape, 1, short=32, long=64).of(one))
    assert chosen.whole == (max(shape) <= 64)
    if chosen.whole:
        assert part is one
    other = sketch(shape, 2, short=32, long=64)
    assert (
        chosen.whole
        or not np.array_equal(other.rows, chosen.rows)
        or not np.array_equal(other.cols, chosen.cols)
    )
    assert spectral_shift(part, chosen.of(two)).total > 0
    assert spectral_shift(part, chosen.of(one)).total == 0


def test_a_sketch_keeps_the_trace_in_the_mean() -> None:
    matrix = np.random.default_rng(6).standard_normal((24, 500)).astype(np.float32)
    traces = [
        float(np.square(sketch((24, 500), seed, 24, 100).of(matrix)).sum()) for seed in range(200)
    ]
    assert np.mean(traces) == pytest.approx(float(np.square(matrix).sum()), rel=0.01)


@settings(deadline=None)
@given(size=st.integers(1, 8), seed=st.integers(0, 1 << 30))
def test_growth_of_a_linear_map_is_the_log_of_its_gain(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    jacobian = rng.standard_normal((size, size))
    _, gains, directions = np.linalg.svd(jacobian)
    for gain, direction in zip(gains, directions, strict=True):
        found = growth_exponent(1e-3, float(np.linalg.norm(jacobian @ (1e-3 * direction))))
        assert found == pytest.approx(np.log(gain), rel=1e-6, abs=1e-6)
    error = rng.standard_normal(size)
    grown = float(np.linalg.norm(jacobian @ error))
    exponent = growth_exponent(float(np.linalg.norm(error)), grown)
    assert exponent <= np.log(singular_values(jacobian)[0]) + 1e-6


def test_noise_does_not_grow() -> None:
    assert growth_exponent(0.0, 1e-9, floor=1e-6) == 0
    assert growth_exponent(0.0, 0.0) == 0
    assert growth_exponent(0.0, 1.0) == np.inf


def test_what_has_no_spectrum_is_refused() -> None:
    with pytest.raises(KernelError, match="finite"):
        singular_values(np.array([[np.nan]]))
    with pytest.raises(KernelError, match="matrix"):
        singular_values(np.zeros(3))
    with pytest.raises(KernelError, match="compared"):
        spectral_shift(np.zeros((2, 3)), np.zeros((3, 2)))
