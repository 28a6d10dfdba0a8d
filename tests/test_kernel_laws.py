"""What must hold for any shape on every path: the twin's bits, alone or in a batch, from any
address, and one error of our own for what cannot be worked on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2q import kernels
from h2q.codec.planes import Activations, Plane
from h2q.core.attention import AttentionRule
from h2q.core.errors import KernelError
from h2q.geometry.rotation import rotation
from planes import BITS, NATIVE, moved, normal, random_plane, random_stack

pytestmark = pytest.mark.usefixtures("two_threads")
PRIMES = (2, 3, 13, 31, 61, 97, 127, 197, 263, 293)
sizes = st.one_of(st.integers(1, 300), st.sampled_from(PRIMES))
seeds = st.integers(0, 2**32 - 1)
laws = settings(deadline=None, max_examples=20)


def everywhere(work: Callable[[], Any]) -> Any:
    """The twin's result, which every native path has to give bit for bit."""
    with kernels.using(kernels.NUMPY):
        expected = work()
    for path in NATIVE:
        with kernels.using(path):
            equal(work(), expected, path)
    return expected


def equal(found: Any, expected: Any, path: str) -> None:
    if isinstance(expected, Activations):
        found, expected = astuple(found), astuple(expected)
    else:
        found, expected = (found,), (expected,)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs, path, strict=True)


@laws
@given(rows=sizes, cols=sizes, bits=st.sampled_from(BITS), tokens=st.integers(1, 20), seed=seeds)
def test_products(rows: int, cols: int, bits: tuple[int, ...], tokens: int, seed: int) -> None:
    """Any shape and stack; and each token of a batch has the bits it has alone."""
    draw = np.random.default_rng(seed)
    stack = random_stack(draw, bits, rows, cols)
    x = kernels.quantize(normal(draw, tokens, cols))
    whole = everywhere(lambda: kernels.matmul_planes(x, stack))
    for path in NATIVE:
        with kernels.using(path):
            for t in {0, tokens // 2, tokens - 1}:
                alone = Activations(x.codes[t : t + 1], x.scale[t : t + 1], x.sums[t : t + 1])
                equal(kernels.matmul_planes(alone, stack), whole[t : t + 1], path)


@laws
@given(width=st.integers(1, 500), tokens=st.integers(1, 20), seed=seeds)
def test_rotations_and_rounding(width: int, tokens: int, seed: int) -> None:
    turn = rotation(seed % 1000, width)
    x = normal(np.random.default_rng(seed), tokens, width)
    for operation in (kernels.rotate, kernels.unrotate, kernels.rotate_quantize):
        everywhere(lambda operation=operation: operation(x, turn))  # type: ignore[misc]
    everywhere(lambda: kernels.quantize(x))


@laws
@given(rows=st.integers(1, 40), width=sizes, tokens=st.integers(1, 9), seed=seeds)
def test_dense_products(rows: int, width: int, tokens: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x, weights = normal(draw, tokens, width), normal(draw, rows, width)
    narrow = (weights.view(np.uint32) >> 16).astype(np.uint16)
    for stored in (weights, narrow):
        everywhere(lambda stored=stored: kernels.matmul_dense(x, stored))  # type: ignore[misc]


@laws
@given(rows=sizes, cols=sizes, bits=st.sampled_from(BITS), ids=st.lists(st.integers(0)), seed=seeds)
def test_gathered_rows(
    rows: int, cols: int, bits: tuple[int, ...], ids: list[int], seed: int
) -> None:
    """Any rows, some of them again and again, or none."""
    stack = random_stack(np.random.default_rng(seed), bits, rows, cols)
    wanted = np.array([0, rows - 1, 0, *(i % rows for i in ids)], np.int64)
    everywhere(lambda: kernels.gather_rows(stack, wanted))
    everywhere(lambda: kernels.gather_rows(stack, wanted[:0]))


@laws
@given(offset=st.integers(1, 63), tokens=st.integers(1, 9), seed=seeds)
def test_arrays_may_begin_at_any_address(offset: int, tokens: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows, cols = 131, 100
    stack = random_stack(draw, (2, 1), rows, cols)
    x, dense, up = normal(draw, tokens, cols), normal(draw, 7, cols), normal(draw, tokens, cols)
    q, k = normal(draw, 1, tokens, 4, 10), normal(draw, 1, 2, 20, 10)
    cos, ids = normal(draw, tokens, cols // 2), draw.integers(0, rows, 5)
    coupling = np.triu(normal(draw, cols, cols) / 8, 1)
    narrow = dense.view(np.uint16)[:, ::2].copy()

    def results(at: Callable[[Any], Any]) -> list[Any]:
        inputs = kernels.quantize(at(x))
        inputs = Activations(*map(at, astuple(inputs)))
        planes = [Plane(p.spec, at(p.codes), at(p.scales)) for p in stack]
        turn = rotation(1, cols)
        turn = replace(turn, signs=at(turn.signs), mix=at(turn.mix))
        return [
            kernels.matmul_planes(inputs, planes),
            kernels.gather_rows(planes, at(ids)),
            kernels.decode_plane(planes[0].spec, planes[0].codes),
            kernels.rotate(at(x), turn),
            kernels.rotate_quantize(at(x), turn).codes,
            kernels.matmul_dense(at(x), at(dense)),
            kernels.matmul_dense(at(x), at(narrow)),
            kernels.rms_norm(at(x), at(x[0]), 1e-5),
            kernels.swiglu(at(x), at(up)),
            kernels.rope(at(x[:, None]), at(cos), at(cos)),
            kernels.attention(at(q), at(k), at(k), 3, AttentionRule(0.25)),
            kernels.encode_plane(at(x), 2, at(coupling)),
        ]

    with kernels.using(NATIVE[0]):
        expected = results(lambda array: array)
    for path in NATIVE:
        with kernels.using(path):
            for mine, theirs in zip(results(lambda a: moved(a, offset)), expected, strict=True):
                equal(mine, theirs, path)


@pytest.mark.parametrize("path", NATIVE)
def test_codes_of_a_mapped_file_at_an_odd_offset(path: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    plane = random_plane(draw, 2, 263, 300)
    x = kernels.quantize(normal(draw, 3, 300))
    expected = kernels.matmul_planes(x, [plane])
    file = tmp_path / "codes"
    for offset in (1, 4095):
        file.write_bytes(b"?" * offset + plane.codes.tobytes())
        codes = np.memmap(file, np.uint8, "r", offset, plane.codes.shape)
        with kernels.using(path):
            equal(kernels.matmul_planes(x, [replace(plane, codes=codes)]), expected, path)


@pytest.mark.parametrize("path", kernels.available())
def test_no_token_is_no_work(path: str) -> None:
    draw = np.random.default_rng(0)
    nothing, heads = np.empty((0, 64), np.float32), np.empty((0, 2, 32), np.float32)
    stack, turn = random_stack(draw, (2, 1), 48, 64), rotation(0, 64)
    with kernels.using(path):
        x = kernels.rotate_quantize(nothing, turn)
        assert len(x.codes) == len(kernels.quantize(nothing).codes) == 0
        assert kernels.matmul_planes(x, stack).shape == (0, 48)
        assert kernels.matmul_dense(nothing, normal(draw, 5, 64)).shape == (0, 5)
        assert kernels.gather_rows(stack, np.empty(0, np.int64)).shape == (0, 64)
        assert kernels.rotate(nothing, turn).shape == (0, 64)
        assert kernels.rms_norm(nothing, np.ones(64, np.float32), 1e-5).shape == (0, 64)
        assert kernels.swiglu(nothing, nothing).shape == (0, 64)
        assert kernels.rope(heads, nothing[:, :16], nothing[:, :16]).shape == (0, 2, 32)


@pytest.mark.parametrize("path", kernels.available())
@pytest.mark.parametrize("bad", [-1, 48, 2**31, 2**32 + 1, -(2**63)])
def test_rows_that_are_not_there_are_refused(path: str, bad: int) -> None:
    stack = random_stack(np.random.default_rng(0), (2,), 48, 20)
    with kernels.using(path), pytest.raises(KernelError, match="outside"):
        kernels.gather_rows(stack, np.array([0, bad, 1]))


@pytest.mark.parametrize("path", NATIVE)
def test_gaps_between_elements_are_closed_or_refused(path: str) -> None:
    draw = np.random.default_rng(0)
    wide, dense = normal(draw, 6, 128), normal(draw, 5, 64)
    x, turn = np.ascontiguousarray(wide[::2, ::2]), rotation(0, 64)
    plane = random_plane(draw, 2, 48, 64)
    codes = np.repeat(plane.codes, 2, axis=2)[:, :, ::2]
    with kernels.using(path):
        for operation in (kernels.rotate, kernels.rotate_quantize):
            equal(operation(wide[::2, ::2], turn), operation(x, turn), path)
        equal(kernels.rms_norm(wide[::2, ::2], dense[0], 1), kernels.rms_norm(x, dense[0], 1), path)
        equal(
            kernels.matmul_dense(x, np.asfortranarray(dense)), kernels.matmul_dense(x, dense), path
        )
        with pytest.raises(KernelError, match="contiguous"):
            kernels.matmul_planes(kernels.quantize(x), [replace(plane, codes=codes)])


def wrong_arrays() -> dict[str, Callable[[], Any]]:
    draw = np.random.default_rng(0)
    x, plane = kernels.quantize(normal(draw, 3, 64)), random_plane(draw, 2, 48, 64)
    other, flat = random_plane(draw, 2, 32, 64), normal(draw, 3, 64)

    def times(activations: Activations, *planes: Plane) -> Callable[[], Any]:
        return lambda: kernels.matmul_planes(activations, planes)

    return {
        "float scales": times(x, replace(plane, scales=np.ones(64, np.float32))),
        "signed codes": times(x, replace(plane, codes=plane.codes.view(np.int8))),
        "short codes": times(x, replace(plane, codes=plane.codes[:, :-1])),
        "short scales": times(x, replace(plane, scales=plane.scales[:47])),
        "float inputs": times(replace(x, codes=flat), plane),
        "narrow inputs": times(kernels.quantize(flat[:, :32]), plane),
        "fewer sums": times(replace(x, sums=x.sums[:2]), plane),
        "double scale": times(replace(x, scale=x.scale.astype(np.float64)), plane),
        "planes of two shapes": times(x, plane, other),
        "another width": lambda: kernels.rotate(flat, rotation(0, 32)),
        "one dimension": lambda: kernels.rms_norm(flat[0], flat[0], 1e-5),
        "a short norm": lambda: kernels.rms_norm(flat, flat[0, :63], 1e-5),
        "dense of another width": lambda: kernels.matmul_dense(flat, flat[:, :63].copy()),
        "gate and up": lambda: kernels.swiglu(flat, flat[:2]),
        "short angles": lambda: kernels.rope(flat[:, None], flat[:, :31], flat[:, :31]),
        "a short cache": lambda: kernels.attention(
            flat.reshape(1, 3, 4, 16),
            flat.reshape(1, 4, 3, 16),
            flat.reshape(1, 4, 3, 16),
            1,
            AttentionRule(1),
        ),
        "feedback": lambda: kernels.encode_plane(flat, 2, flat),
    }


@pytest.mark.parametrize("path", NATIVE)
@pytest.mark.parametrize("name", wrong_arrays())
def test_wrong_arrays_are_refused(path: str, name: str) -> None:
    with kernels.using(path), pytest.raises(KernelError):
        wrong_arrays()[name]()


def test_extreme_values() -> None:
    largest = np.finfo(np.float32).max
    for value in (largest, -largest, 1e-30, 9.9e-31, 1e-44, -0.0, 1.5e-30):
        x = np.full((2, 37), value, np.float32)
        x[0, ::3] = 0.5 * value
        everywhere(lambda x=x: kernels.quantize(x))  # type: ignore[misc]


@pytest.mark.parametrize("path", kernels.available())
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_wherever_they_are(path: str, bad: float) -> None:
    """The first and last element, whole vectors and tails of every width; any row of a batch."""
    with kernels.using(path), np.errstate(invalid="ignore", over="ignore"):
        for width in (1, 17, 64, 131):
            for at in range(width):
                x = np.ones((3, width), np.float32)
                x[at % 3, at] = bad
                with pytest.raises(KernelError, match="finite"):
                    kernels.quantize(x)
                with pytest.raises(KernelError, match="finite"):
                    kernels.rotate_quantize(x, rotation(0, width))


@pytest.mark.parametrize("path", kernels.available())
def test_a_rotation_that_overflows_is_refused(path: str) -> None:
    x = np.full((1, 64), np.finfo(np.float32).max)
    x *= rotation(0, 64).signs
    with (
        kernels.using(path),
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(KernelError, match="finite"),
    ):
        kernels.rotate_quantize(x, rotation(0, 64))


@pytest.mark.parametrize("path", NATIVE)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_encoder_refuses_what_is_not_finite_wherever_it_is(path: str, bad: float) -> None:
    with kernels.using(path):
        for row, col in ((0, 0), (0, 36), (16, 17), (31, 0), (32, 36)):
            target = np.zeros((33, 37), np.float32)
            target[row, col] = bad
            with pytest.raises(KernelError, match="finite"):
                kernels.encode_plane(target, 1)
            coupling = np.zeros((37, 37), np.float32)
            coupling[min(row, 35), 36] = bad
            with pytest.raises(KernelError, match="finite"):
                kernels.encode_plane(np.zeros((33, 37), np.float32), 1, coupling)


def test_an_error_can_be_given_its_place() -> None:
    with pytest.raises(KernelError) as caught:
        kernels.quantize(np.full((1, 8), np.nan, np.float32))
    located = caught.value.at("model.norm.weight")
    assert type(located) is KernelError
    assert located.where == "model.norm.weight"
    assert str(located) == f"{caught.value.what} [model.norm.weight]"
