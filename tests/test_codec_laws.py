"""Laws of the code: identities, no loss on exact codewords, the same symbols on every path."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2q import kernels
from h2q.codec.constants import COLUMNS, LEVELS, UNIT
from h2q.codec.decode import decode_plane, pack_symbols, unpack_symbols
from h2q.codec.layout import PanelLayout
from h2q.core.errors import Cancelled, KernelError
from h2q.core.specs import PlaneSpec
from h2q.crystallize.moments import feedback

pytestmark = pytest.mark.usefixtures("two_threads")
NATIVE = [path for path in kernels.available() if path != "numpy"]
shapes = st.tuples(st.sampled_from([1, 2]), st.integers(1, 300), st.integers(1, 70))


@settings(deadline=None)
@given(shape=shapes, seed=st.integers(0, 2**32 - 1))
def test_pack_and_unpack_are_inverse(shape: tuple[int, int, int], seed: int) -> None:
    spec = PlaneSpec(*shape)
    codes = np.random.default_rng(seed).integers(0, 256, PanelLayout.of(spec).code_shape, np.uint8)
    np.testing.assert_array_equal(pack_symbols(spec, unpack_symbols(spec, codes)), codes)


@settings(deadline=None)
@given(shape=shapes)
def test_padding_stays_small(shape: tuple[int, int, int]) -> None:
    """Rows grow to the next sixteen or by a thirty-second; nothing overflows a line."""
    layout = PanelLayout.of(PlaneSpec(*shape))
    padded = layout.panels * layout.panel_rows
    assert shape[1] <= padded <= max(-(-shape[1] // 16) * 16, shape[1] + shape[1] // 32)
    assert layout.lines * layout.symbols == layout.padded_cols // 4 * layout.steps


@settings(deadline=None, max_examples=25)
@given(
    bits=st.sampled_from([1, 2]),
    rows=st.integers(1, 20),
    cols=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_exact_codewords_come_back(bits: int, rows: int, cols: int, seed: int) -> None:
    """A target that a plane can say exactly is said exactly; shapes without padding."""
    spec = PlaneSpec(bits, 16 * rows, 32 * cols)
    if PanelLayout.of(spec).panels * PanelLayout.of(spec).panel_rows != spec.rows:
        spec = PlaneSpec(bits, 16, 32 * cols)
    codes = np.random.default_rng(seed).integers(0, 256, PanelLayout.of(spec).code_shape, np.uint8)
    target = decode_plane(spec, codes)
    found = kernels.encode_plane(target.astype(np.float32), spec.bits)
    np.testing.assert_array_equal(kernels.decode_plane(spec, found), target)


@pytest.mark.parametrize(
    ("bits", "rows", "cols"),
    # The last is wide enough for feedback in several blocks and beyond the columns kept up to date.
    [(2, 17, 13), (1, 16, 37), (2, 256, 24), (1, 300, 5), (2, 1, 1), (2, 3, 371)],
)
def test_every_path_gives_the_same_symbols(bits: int, rows: int, cols: int) -> None:
    draw = np.random.default_rng(rows)
    target = (draw.standard_normal((rows, cols)) * UNIT[bits]).astype(np.float32)
    target[0, 0] = 1e6  # far beyond any level
    strength = 1 / max(8, 2 * np.sqrt(cols))  # errors do not grow without end
    coupling = np.triu(draw.standard_normal((cols, cols)) * strength, 1).astype(np.float32)
    with kernels.using("numpy"):
        expected = kernels.encode_plane(target, bits, coupling)
    for path in NATIVE:
        with kernels.using(path):
            found = kernels.encode_plane(target, bits, coupling)
        np.testing.assert_array_equal(found, expected, path)


@pytest.mark.parametrize(("bits", "ceiling"), [(2, 0.0707), (1, 0.2710)])
def test_distortion_of_a_unit_gaussian(bits: int, ceiling: float) -> None:
    """As shipped: committed in blocks with look-ahead, starting at state zero."""
    x = np.random.default_rng(0).standard_normal((256, 784)).astype(np.float32)
    codes = kernels.encode_plane(x * np.float32(UNIT[bits]), bits)
    levels = kernels.decode_plane(PlaneSpec(bits, *x.shape), codes) / UNIT[bits]
    assert np.mean((x - levels) ** 2) < ceiling * np.mean(x**2)


def test_feedback_reaches_the_named_proxy_loss() -> None:
    """256 x 1024 Gaussian, moments with eigenvalues 1/i."""
    draw = np.random.default_rng(0)
    basis, _ = np.linalg.qr(draw.standard_normal((1024, 1024)))
    moments = (basis / np.arange(1, 1025)) @ basis.T
    x = draw.standard_normal((256, 1024)).astype(np.float32)
    codes = kernels.encode_plane(x * np.float32(UNIT[2]), 2, feedback(moments))
    error = x - kernels.decode_plane(PlaneSpec(2, 256, 1024), codes) / UNIT[2]
    loss = np.sum(error @ moments * error) / np.sum(x @ moments * x)
    assert loss <= 0.0298


def test_golden_bytes() -> None:
    """A change of a single symbol is a change of the format."""
    x = np.sin(np.arange(32 * 24, dtype=np.float64) ** 1.5).reshape(32, 24) * 40
    found = [
        hashlib.sha256(kernels.encode_plane(x.astype(np.float32), bits).tobytes()).hexdigest()[:16]
        for bits in (1, 2)
    ]
    assert found == ["6f4c45a2f6beb6d3", "4d5c3d9e7b71ea63"]


def test_threads_change_no_symbol() -> None:
    x = (np.random.default_rng(3).standard_normal((300, 64)) * 27).astype(np.float32)
    before = kernels.threads()
    try:
        results = []
        for count in (1, 2, 3):
            kernels.set_threads(count)
            results.append(kernels.encode_plane(x, 2).tobytes())
    finally:
        kernels.set_threads(before)
    assert len(set(results)) == 1


@pytest.mark.parametrize("path", kernels.available())
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(path: str, bad: float) -> None:
    target = np.zeros((4, 4), np.float32)
    target[1, 2] = bad
    with kernels.using(path), pytest.raises(KernelError):
        kernels.encode_plane(target, 2)


@pytest.mark.parametrize("path", kernels.available())
def test_encoding_can_be_stopped(path: str) -> None:
    heard = []

    def stop(share: float) -> bool:
        heard.append(share)
        return False

    with kernels.using(path), pytest.raises(Cancelled):
        kernels.encode_plane(np.zeros((16, 64), np.float32), 2, progress=stop)
    assert len(heard) == 1


def test_levels_fit_seven_bits_and_every_level_is_reached() -> None:
    for bits, table in LEVELS.items():
        assert np.abs(table.astype(int)).max() == 63
        reach = {0}
        for column in COLUMNS[bits]:
            reach |= {index ^ column for index in reach}
        assert reach == set(range(32))
