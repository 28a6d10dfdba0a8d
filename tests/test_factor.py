"""Cholesky factors by blocks are NumPy's, and so are systems solved by them."""

from __future__ import annotations

import numpy as np
import pytest

from h2q.crystallize import factor


def positive(count: int, dtype: type, seed: int = 0) -> np.ndarray:
    """Positive definite, with eigenvalues over three decades."""
    draw = np.random.default_rng(seed)
    turned, _ = np.linalg.qr(draw.standard_normal((count, count)))
    return ((turned * np.geomspace(1e-2, 10, count)) @ turned.T).astype(dtype)


@pytest.mark.parametrize("count", [1, 5, 16, 37])
@pytest.mark.parametrize("block", [1, 4, 16, 64])
def test_blocks_do_not_change_the_factor(count: int, block: int) -> None:
    matrix = positive(count, np.float64)
    found = factor.blocked_cholesky(matrix.copy(), block)
    np.testing.assert_allclose(found, np.linalg.cholesky(matrix), atol=1e-12)
    assert np.array_equal(found, np.tril(found))


@pytest.mark.parametrize("block", [4, 16, 64])
def test_substitution_solves(block: int) -> None:
    matrix = positive(37, np.float64)
    wanted = np.random.default_rng(1).standard_normal((37, 5))
    found = factor.substituted(np.linalg.cholesky(matrix), wanted, block)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, wanted), atol=1e-9)


def test_wide_ones_go_by_blocks_in_their_own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor, "NARROW", 8)
    monkeypatch.setattr(factor, "BLOCK", 16)
    matrix = positive(70, np.float32)
    wanted = np.random.default_rng(1).standard_normal((70, 3)).astype(np.float32)
    lower, found = factor.cholesky(matrix.copy()), factor.solve(matrix, 0.0, wanted)
    assert lower.dtype == found.dtype == np.float32
    np.testing.assert_allclose(lower @ lower.T, matrix, atol=2e-5)
    np.testing.assert_allclose(matrix @ found, wanted, atol=2e-3)


def test_what_is_not_positive_definite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor, "NARROW", 8)
    matrix = positive(40, np.float32)
    matrix[30, 30] = -1
    with pytest.raises(np.linalg.LinAlgError):
        factor.cholesky(matrix.copy())
    wanted = np.ones((40, 1), np.float32)
    known = np.linalg.solve(matrix, wanted)
    np.testing.assert_allclose(factor.solve(matrix, 0.0, wanted), known)


@pytest.mark.parametrize("count", [1, 2, 7, 600])
def test_turning_around(count: int) -> None:
    matrix = np.arange(count * count).reshape(count, count).astype(np.float32)
    found = matrix.copy()
    factor.turn_around(found)
    np.testing.assert_array_equal(found, matrix[::-1, ::-1])
