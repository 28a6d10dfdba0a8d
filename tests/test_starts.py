"""Rows are coded the way round that suits the weights their lanes begin with."""

from __future__ import annotations

import numpy as np
import pytest

from h2q import kernels
from h2q.codec.constants import UNIT
from h2q.codec.planes import from_bfloat16
from h2q.crystallize.starts import first_levels, row_signs
from h2q.crystallize.towers import Matrix, TowerPlan, encode_tower
from h2q.geometry.rotation import rotation


def test_a_trellis_begins_with_few_levels() -> None:
    for bits in (1, 2):
        counts = [len(levels) for levels in first_levels(bits)]
        assert counts[0] == 1 << bits
        assert counts == sorted(counts)
        assert counts[-1] < 32
    assert first_levels(2)[0].min() < -2.3 * UNIT[2]
    assert first_levels(2)[0].max() < UNIT[2]


@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("rows", [16, 40, 256])
def test_a_mirrored_row_is_coded_the_other_way_round(bits: int, rows: int) -> None:
    targets = 27 * np.random.default_rng(rows).standard_normal((rows, 64), np.float32)
    signs = row_signs(targets, bits)
    assert set(signs.tolist()) <= {1.0, -1.0}
    mirrored = row_signs(-targets, bits)
    assert ((signs == -mirrored) | (signs == 1)).all()
    assert (signs != mirrored)[:16].mean() > 0.9  # lanes of the first rows begin there


def test_what_lies_at_the_beginning_does_not_stay_wrong() -> None:
    """Large weights of either sign in the first columns of the rows that lanes begin with."""
    weights = np.random.default_rng(1).standard_normal((256, 256), np.float32)
    weights[:8, :4], weights[8:16, :4] = 2.2, -2.2
    tower = encode_tower(Matrix("w", weights), TowerPlan((2, 2, 2, 2), (0.0,) * 4))
    planes = [encoded.plane for encoded in tower]
    assert (from_bfloat16(planes[0].scales[:8]) < 0).all()
    assert (from_bfloat16(planes[0].scales[8:16]) > 0).all()
    wrong = np.square(kernels.gather_rows(planes, np.arange(256)) - weights).mean(axis=1)
    assert wrong[:16].mean() < 1e-3  # not mirrored, 1e-2
    assert wrong[16:].mean() < 1e-4


def test_negative_scales_in_every_kernel() -> None:
    """The products of mirrored rows agree with the reference, bit for bit."""
    random = np.random.default_rng(2)
    weights = random.standard_normal((96, 128), np.float32)
    tower = encode_tower(Matrix("w", weights), TowerPlan((2, 1), (0.0, 0.0)))
    planes = [encoded.plane for encoded in tower]
    assert all((from_bfloat16(plane.scales) < 0).any() for plane in planes)
    x = random.standard_normal((3, 128), np.float32)
    inputs = kernels.rotate_quantize(x, rotation(0, 128))
    found = kernels.matmul_planes(inputs, planes), kernels.gather_rows(planes, np.arange(96))
    with kernels.using("numpy"):
        wanted = kernels.matmul_planes(inputs, planes), kernels.gather_rows(planes, np.arange(96))
    for mine, theirs in zip(found, wanted, strict=True):
        assert np.array_equal(mine, theirs)
