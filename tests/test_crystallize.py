"""The parts of growing that can be judged alone: moments, feedback, what options refuse."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from h2q.core.errors import UsageError
from h2q.crystallize import Options
from h2q.crystallize.factor import damped
from h2q.crystallize.moments import feedback, shaping_gain, with_prior
from h2q.crystallize.towers import Matrix, TowerPlan, add_plane, encode_tower


def uneven_moments(width: int, seed: int = 0) -> np.ndarray:
    """H with eigenvalues 1/i in a random basis."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))
    return (basis / np.arange(1, width + 1)) @ basis.T


def test_feedback_factors_the_moments() -> None:
    """H = (I + U) D (I + U)^T with D diagonal is what makes the error of each column
    independent.
    """
    moments = uneven_moments(48)
    unit = np.eye(48) + feedback(moments)
    inner = np.linalg.inv(unit) @ moments @ np.linalg.inv(unit).T
    off = inner - np.diag(np.diag(inner))
    assert np.abs(off).max() < 1e-6 * np.diag(inner).max()


def test_feedback_beats_rounding_without_it() -> None:
    moments = uneven_moments(128)
    weights = np.random.default_rng(1).standard_normal((64, 128)).astype(np.float32)
    shaped = add_plane(Matrix("w", weights, moments), None, 2, 0.01)
    plain = add_plane(Matrix("w", weights, moments), None, 2, 1e6)  # as good as no feedback
    assert shaped.error < 0.75 * plain.error
    assert plain.mse < shaped.mse


def test_every_plane_of_a_tower_lowers_the_error() -> None:
    moments = uneven_moments(128)
    weights = np.random.default_rng(2).standard_normal((32, 128)).astype(np.float32)
    tower = encode_tower(Matrix("w", weights, moments), TowerPlan((2, 1, 2, 1), (0.5,) * 4))
    errors = [1.0, *(encoded.error for encoded in tower)]
    assert all(b < 0.8 * a for a, b in pairwise(errors))


def test_silent_rows_and_inputs_are_survived() -> None:
    weights = np.zeros((16, 32), np.float32)
    weights[1] = 1
    encoded = add_plane(Matrix("w", weights, np.zeros((32, 32))), None, 2, 0.3)
    assert not np.delete(encoded.rest, 1, axis=0).any()
    assert np.abs(encoded.rest).max() < 0.9
    assert encoded.error == 0


def test_damping_never_leaves_moments_singular() -> None:
    assert np.linalg.eigvalsh(damped(np.zeros((4, 4)), 0.3)).min() > 0


def test_a_prior_counts_as_many_tokens_as_its_strength() -> None:
    draw = np.random.default_rng(3)
    inputs = draw.standard_normal((60, 8)).astype(np.float32)
    own, shared = (x.T @ x / len(x) for x in (inputs[:20], inputs[20:]))
    np.testing.assert_array_equal(with_prior(own, 0, shared, 40.0), shared)
    np.testing.assert_array_equal(with_prior(own, 20, shared, 0.0), own)
    np.testing.assert_array_equal(with_prior(own, 0, shared, 0.0), shared)
    both = with_prior(own, 20, shared, 40.0)
    np.testing.assert_allclose(both, inputs.T @ inputs / 60, rtol=1e-5, atol=1e-6)
    assert both.dtype == np.float32


@pytest.mark.parametrize("damping", [0.03, 0.3, 3.0])
def test_shaping_gains_nothing_from_white_inputs(damping: float) -> None:
    basis, _ = np.linalg.qr(np.random.default_rng(4).standard_normal((96, 64)))
    for size in (1e-3, 1.0, 1e3):
        assert shaping_gain((size * basis).astype(np.float32), damping) == pytest.approx(1)


def test_the_shaping_gain_of_a_single_direction_is_known() -> None:
    """One eigenvalue is all: ((width + d) d^(width - 1))^(1 / width) / (1 + d)."""
    width, damping = 32, 0.3
    x = np.outer(np.ones(20), np.arange(1, width + 1)).astype(np.float32)
    known = ((width + damping) * damping ** (width - 1)) ** (1 / width) / (1 + damping)
    assert shaping_gain(x, damping) == pytest.approx(known, rel=1e-3)


def test_the_shaping_gain_foretells_what_feedback_leaves() -> None:
    """Plain rounding and feedback under the same moments, both coded; in a basis of their own, as
    behind a rotation: along the columns there would be nothing to feed back.
    """
    draw = np.random.default_rng(5)
    basis, _ = np.linalg.qr(draw.standard_normal((64, 64)))
    uneven = draw.standard_normal((512, 64)) * np.exp(draw.standard_normal(64))
    x = (uneven @ basis).astype(np.float32)
    moments = x.T @ x / len(x)
    weights = draw.standard_normal((256, 64)).astype(np.float32)
    shaped = add_plane(Matrix("w", weights, moments), None, 2, 0.3)
    plain = add_plane(Matrix("w", weights, moments), None, 2, 1e6)
    gain = shaped.error / plain.error
    assert gain < 0.7
    assert shaping_gain(x, 0.3) == pytest.approx(gain, rel=0.25)


@pytest.mark.parametrize(
    "options",
    [
        {"ratio": 0.5},
        {"ratio": float("nan")},
        {"seed": -1},
        {"quality": 0.0},
        {"quality": 1.1},
        {"bits": 0.1},
        {"size": 0},
        {"memory": float("inf")},
        {"ratio": "16"},
        {"bits": True},
        {"seed": 1.5},
        {"seed": "x"},
        {"calibration": 7},
        {"calibration_streams": -1},
        {"measured_streams": 0},
        {"measured_length": 1},
        {"groups": 0},
        {"attempts": 0},
        {"base_damping": -1.0},
        {"ridge": float("nan")},
    ],
)
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Options(**options)  # type: ignore[arg-type]


def test_one_target_is_enough() -> None:
    with pytest.raises(UsageError, match="quality and size"):
        Options(quality=0.9, size=1 << 20)
    with pytest.raises(UsageError, match="ratio and bits and memory"):
        Options(ratio=8.0, bits=2.0, memory=1 << 30)
    assert Options().wanted_quality == 0.9
    assert Options(quality=0.95).wanted_quality == 0.95
    assert Options(ratio=8.0).wanted_quality is None
