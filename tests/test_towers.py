"""Laws of towers: more planes are never worse, no loss on what planes can say, ceilings by name."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2q import kernels
from h2q.bench.codec import excess_bits, gaussian, proxy_loss, uneven_moments
from h2q.bench.scalar import rounded
from h2q.codec.constants import UNIT
from h2q.codec.decode import decode_plane, row_scales
from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane
from h2q.core.errors import Cancelled, QualityError, SourceError, UsageError
from h2q.core.specs import PlaneSpec
from h2q.crystallize.moments import feedback
from h2q.crystallize.towers import Matrix, TowerPlan, add_plane, encode_tower

pytestmark = pytest.mark.usefixtures("two_threads")
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
sides = st.one_of(st.just(1), st.sampled_from(PRIMES), st.integers(1, 40))
plans = st.lists(st.sampled_from([1, 2]), min_size=1, max_size=4).map(
    lambda bits: TowerPlan(tuple(bits), (0.05,) * len(bits), commit=4, lookahead=4)
)


def decoded(planes: list[Plane]) -> np.ndarray:
    """The sum of planes as a reader of the file sees it, float64."""
    return sum(
        row_scales(p)[:, None].astype(np.float64) * decode_plane(p.spec, p.codes) for p in planes
    )


def rough_moments(width: int, rank: int, draw: np.random.Generator) -> np.ndarray:
    """Very uneven moments of a given rank, as few calibration texts give them."""
    inputs = draw.standard_normal((rank, width)) * np.exp(3 * draw.standard_normal(width))
    return inputs.T @ inputs / rank


@settings(deadline=None, max_examples=40)
@given(plan=plans, rows=sides, cols=sides, seed=st.integers(0, 2**32 - 1))
def test_more_planes_are_never_worse(plan: TowerPlan, rows: int, cols: int, seed: int) -> None:
    """Row by row, without moments, on heavy tails: measured from the stored bytes."""
    weights = np.random.default_rng(seed).standard_t(2, (rows, cols)).astype(np.float32)
    tower = encode_tower(Matrix("w", weights), plan)
    errors = [np.sum(weights.astype(np.float64) ** 2, axis=1)]
    for count in range(1, len(tower) + 1):
        left = weights - decoded([encoded.plane for encoded in tower[:count]])
        errors.append(np.sum(left**2, axis=1))
    for before, after in pairwise(errors):
        assert (after <= before * (1 + 1e-6)).all()


@settings(deadline=None, max_examples=40)
@given(plan=plans, rows=sides, cols=sides, rank=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
def test_more_planes_never_raise_the_proxy_loss(
    plan: TowerPlan, rows: int, cols: int, rank: int, seed: int
) -> None:
    """Also where the moments are singular and the damping hides it from the feedback."""
    draw = np.random.default_rng(seed)
    moments = rough_moments(cols, rank, draw)
    weights = draw.standard_normal((rows, cols)).astype(np.float32)
    tower = encode_tower(Matrix("w", weights, moments), plan)
    loss = [np.einsum("ij,jk,ik->i", w := weights.astype(np.float64), moments, w)]
    for count in range(1, len(tower) + 1):
        left = weights - decoded([encoded.plane for encoded in tower[:count]])
        loss.append(np.einsum("ij,jk,ik->i", left, moments, left))
    slack = 1e-6 * np.abs(loss[0]).max()  # of float32 weights
    for before, after in pairwise(loss):
        assert (after <= before + slack).all()
    assert tower[-1].error == pytest.approx(loss[-1].sum() / loss[0].sum(), rel=1e-3, abs=1e-6)


def test_a_plane_that_would_harm_a_row_is_silent_there() -> None:
    """A row that needs nothing more takes a scale of zero and stays as it is."""
    weights = gaussian((32, 64))
    weights[3] = 0
    base = add_plane(Matrix("w", weights), None, 2, 0.0)
    assert row_scales(base.plane)[3] == 0
    assert not base.rest[3].any()
    assert np.delete(row_scales(base.plane), 3).all()


@pytest.mark.parametrize("bits", [1, 2])
def test_exact_codewords_leave_nothing(bits: int) -> None:
    """Rows whose power gives their scale back exactly: nothing is left, and another plane knows."""
    spec = PlaneSpec(bits, 16, 32)
    draw = np.random.default_rng(bits)
    codes = draw.integers(0, 256, PanelLayout.of(spec).code_shape, np.uint8)
    levels = decode_plane(spec, codes).astype(np.float32)
    weights = levels * (2.0 ** draw.integers(-8, 8, (16, 1))).astype(np.float32)
    matrix = Matrix("w", weights)
    tower = encode_tower(matrix, TowerPlan((bits, 1), (0.0, 0.0)))
    found = kernels.decode_plane(spec, tower[0].plane.codes)
    same = (found == levels).all(axis=1)
    assert same.any()  # of the others the power is not that of the code
    assert not tower[0].rest[same].any()
    assert not tower[1].rest[same].any()
    assert not row_scales(tower[1].plane)[same].any()


@settings(deadline=None, max_examples=30)
@given(bits=st.sampled_from([1, 2]), rows=sides, cols=sides, seed=st.integers(0, 2**32 - 1))
def test_every_shape_is_coded(bits: int, rows: int, cols: int, seed: int) -> None:
    """The rest is what the stored bytes leave; the padding of the scales is zero."""
    weights = np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)
    encoded = add_plane(Matrix("w", weights), None, bits, 0.0)
    assert encoded.plane.codes.shape == PanelLayout.of(encoded.plane.spec).code_shape
    assert not encoded.plane.scales[rows:].any()
    np.testing.assert_allclose(weights - decoded([encoded.plane]), encoded.rest, atol=1e-5)
    assert 0 <= encoded.mse < 1


@pytest.mark.parametrize(
    ("bits", "ceiling"),
    [((2,), 0.0702), ((1,), 0.2675), ((1, 1), 0.0715), ((2, 1), 0.0190), ((2, 1, 1), 0.0052)],
)
def test_distortion_in_one_long_trellis(bits: tuple[int, ...], ceiling: float) -> None:
    """200,704 samples of a unit Gaussian; nothing beats Shannon."""
    plan = TowerPlan(bits, (0.0,) * len(bits), commit=784, lookahead=0)
    loss = encode_tower(Matrix("w", gaussian((256, 784))), plan)[-1].mse
    assert loss <= ceiling
    assert excess_bits(sum(bits), loss) > 0


def test_distortion_as_shipped() -> None:
    assert add_plane(Matrix("w", gaussian((256, 784))), None, 2, 0.0).mse <= 0.0707


def test_proxy_loss_of_the_named_case() -> None:
    """256 x 1024 Gaussian, eigenvalues 1/i: trellis against scalar rounding, each with feedback."""
    weights, moments = gaussian((256, 1024), 1), uneven_moments(1024)
    ours = add_plane(Matrix("w", weights, moments), None, 2, 0.0)
    assert ours.error <= 0.0298
    assert ours.error == pytest.approx(proxy_loss(ours.rest, weights, moments))
    scalar = weights - rounded(weights, feedback(moments), moments.astype(np.float32))
    assert ours.error < 0.65 * proxy_loss(scalar, weights, moments)


def test_feedback_reaches_columns_of_the_same_block() -> None:
    """Twelve columns are committed at once, and still the later of them make good what the earlier
    ones did wrong.
    """
    basis, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((12, 12)))
    moments = (basis / np.arange(1, 13) ** 2) @ basis.T
    weights = gaussian((512, 12))
    shaped = add_plane(Matrix("w", weights, moments), None, 2, 1.0)
    plain = add_plane(Matrix("w", weights), None, 2, 0.0)
    assert shaped.error < 0.8 * proxy_loss(plain.rest, weights, moments)
    assert plain.mse < shaped.mse


def test_threads_and_paths_change_no_byte() -> None:
    weights, moments = gaussian((70, 48)), uneven_moments(48)
    plan = TowerPlan((2, 1), (0.3, 0.1))
    found, before = set(), kernels.threads()
    try:
        for path in kernels.available()[:-1]:
            for threads in (1, 3):
                with kernels.using(path):
                    kernels.set_threads(threads)
                    tower = encode_tower(Matrix("w", weights, moments), plan)
                planes = b"".join(e.plane.codes.tobytes() + e.plane.scales.tobytes() for e in tower)
                found.add(hashlib.sha256(planes).hexdigest())
    finally:
        kernels.set_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(bad: float) -> None:
    weights, moments = gaussian((4, 6)), np.eye(6)
    weights[1, 2] = bad
    with pytest.raises(SourceError, match=r"model\.layers\.3\.mlp"):
        Matrix("model.layers.3.mlp.up_proj.weight", weights)
    moments[3, 3] = bad
    with pytest.raises(QualityError, match="lm_head"):
        Matrix("lm_head", gaussian((4, 6)), moments)


def test_moments_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(QualityError, match="lm_head"):
        Matrix("lm_head", gaussian((4, 6)), np.eye(5))
    with pytest.raises(QualityError, match="lm_head"):
        add_plane(Matrix("lm_head", gaussian((4, 6)), -np.eye(6)), None, 2, 0.0)
    huge = np.full((4, 6), 3e38, np.float32)
    assert np.isfinite(add_plane(Matrix("huge", huge), None, 2, 0.0).rest).all()


@pytest.mark.parametrize(
    ("bits", "damping", "commit"),
    [
        ((), (), 16),
        ((3,), (0.1,), 16),
        ((2, 1), (0.1,), 16),
        ((2,), (-1.0,), 16),
        ((2,), (0.1,), 0),
    ],
)
def test_senseless_plans_are_refused(
    bits: tuple[int, ...], damping: tuple[float, ...], commit: int
) -> None:
    with pytest.raises(UsageError):
        TowerPlan(bits, damping, commit)


def test_a_tower_tells_its_progress_and_stops() -> None:
    heard: list[float] = []

    def listen(share: float) -> bool:
        heard.append(share)
        return len(heard) < 6

    matrix = Matrix("w", gaussian((16, 64)))
    with pytest.raises(Cancelled):
        encode_tower(matrix, TowerPlan((2, 1), (0.0, 0.0)), listen)
    assert heard == sorted(heard)
    assert heard[3] == 0.5
    assert len(heard) == 6


@pytest.mark.parametrize("far", [1e3, 1e20])
def test_an_outlier_is_not_given_up(far: float) -> None:
    """However far a weight lies out, it gets one of the levels that lie furthest out, and its
    neighbours keep theirs.
    """
    for bits in (1, 2):
        target = (gaussian((16, 128)) * UNIT[bits]).astype(np.float32)
        plain = target.copy()
        target[5, 97], target[9, 76] = far, -far
        levels = kernels.decode_plane(PlaneSpec(bits, 16, 128), kernels.encode_plane(target, bits))
        assert levels[5, 97] > 35
        assert levels[9, 76] < -35
        plain[5, 97] = plain[9, 76] = 0
        assert np.mean((np.where(plain == 0, 0, levels) - plain) ** 2) < 0.4 * np.mean(plain**2)


def test_inputs_judge_as_their_moments_do() -> None:
    """Errors measured by answers to inputs are those measured by the inputs' moments."""
    draw = np.random.default_rng(3)
    x = (draw.standard_normal((60, 32)) * np.exp(draw.standard_normal(32))).astype(np.float32)
    weights = draw.standard_normal((48, 32)).astype(np.float32)
    moments = x.T @ x / np.float32(len(x))
    plan = TowerPlan((2, 1), (0.6, 0.2))
    known = encode_tower(Matrix("w", weights, moments), plan)
    found = encode_tower(Matrix("w", weights, moments, judges=x), plan)
    for one, other in zip(known, found, strict=True):
        np.testing.assert_array_equal(one.plane.codes, other.plane.codes)
        np.testing.assert_allclose(one.costs, other.costs, rtol=1e-3, atol=1e-5)
    less = Matrix("w", weights, moments, judges=x[::2])
    assert not np.allclose(less.costs, known[0].costs, rtol=1e-2)
