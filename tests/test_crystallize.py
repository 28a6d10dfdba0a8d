"""The parts of growing that can be judged alone: moments, feedback, towers, plans."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2q.core.errors import UsageError
from h2q.crystallize import Options
from h2q.crystallize.moments import damped, feedback
from h2q.crystallize.plan import Candidate, choose, groups
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


candidates = st.lists(
    st.builds(
        Candidate,
        tensor=st.sampled_from("abcdef"),
        bits=st.sampled_from([1, 2]),
        bytes=st.integers(1, 1000),
        gain=st.floats(-1, 1),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(found=candidates, budget=st.integers(0, 3000))
def test_a_plan_keeps_its_budget_and_takes_one_choice_per_tensor(
    found: list[Candidate], budget: int
) -> None:
    chosen = choose(found, budget)
    assert sum(c.bytes for c in chosen) <= budget
    assert len({c.tensor for c in chosen}) == len(chosen)
    assert all(c.gain > 0 and c in found for c in chosen)
    efficiency = [c.gain / c.bytes for c in chosen]
    assert efficiency == sorted(efficiency, reverse=True)
    cut = groups(chosen, 3)
    assert [c for group in cut for c in group] == chosen
    assert len(cut) <= 3
    assert all(cut)


def test_a_plan_prefers_the_hull() -> None:
    """Two bits at once where the second bit is worth more than the first; the better tensor
    first.
    """
    found = [
        Candidate("a", 1, 100, 0.1),
        Candidate("a", 2, 200, 0.5),
        Candidate("b", 1, 100, 0.3),
        Candidate("b", 2, 200, 0.4),
    ]
    assert [(c.tensor, c.bits) for c in choose(found, 300)] == [("b", 1), ("a", 2)]
    assert [(c.tensor, c.bits) for c in choose(found, 400)] == [("a", 2), ("b", 2)]


@pytest.mark.parametrize("options", [{"ratio": 0.5}, {"ratio": float("nan")}, {"seed": -1}])
def test_senseless_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Options(**options)  # type: ignore[arg-type]
