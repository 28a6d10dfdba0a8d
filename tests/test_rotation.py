"""Rotations are orthogonal, invertible and the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2q.geometry.rotation import rotate, rotation, splitmix64, unrotate


def test_splitmix64_gives_the_published_sequence() -> None:
    """First outputs for seed 0, as in the reference implementation by Vigna."""
    assert [int(v) for v in splitmix64(0, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


@given(width=st.integers(1, 400), seed=st.integers(0, 2**31 - 1))
def test_rotation_keeps_lengths_and_inverts(width: int, seed: int) -> None:
    r = rotation(seed, width)
    x = np.random.default_rng(seed).standard_normal((3, width)).astype(np.float32)
    y = rotate(x, r)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.linalg.norm(x, axis=1), rtol=1e-5)
    np.testing.assert_allclose(unrotate(y, r), x, atol=1e-5)


@pytest.mark.parametrize("width", [256, 768, 896, 268, 7])
def test_rotated_product_is_the_product(width: int) -> None:
    draw = np.random.default_rng(width)
    weights = draw.standard_normal((5, width)).astype(np.float32)
    x = draw.standard_normal((4, width)).astype(np.float32)
    r = rotation(3, width)
    np.testing.assert_allclose(
        rotate(x, r) @ rotate(weights, r).T, x @ weights.T, atol=2e-5 * width**0.5
    )


def test_outliers_are_spread() -> None:
    """What the rotation is for: one loud input channel no longer sets the int8 scale."""
    x = np.random.default_rng(0).standard_normal((1, 1024)).astype(np.float32)
    x[0, 17] = 300.0
    y = rotate(x, rotation(0, 1024))
    assert np.abs(y).max() / y.std() < 5 < np.abs(x).max() / x.std()
