"""Every native operation against its NumPy twin, bit for bit, on every path this processor can
run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, is_dataclass
from typing import Any

import numpy as np
import pytest

from h2q import kernels
from h2q.codec.pages import KINDS, PAGE, Pages
from h2q.codec.rounded import rounded
from h2q.core.attention import AttentionRule
from h2q.geometry.rotation import rotation
from planes import NATIVE, normal, random_plane

pytestmark = pytest.mark.usefixtures("two_threads")
SHAPES = [(1, 1), (16, 4), (5, 7), (31, 37), (128, 256), (256, 768), (263, 101), (300, 260)]
RULE = AttentionRule(0.3)
WINDOW = AttentionRule(0.3, window=70, softcap=5.0)
Case = Callable[[np.random.Generator], Any]


class Together(tuple[Any, ...]):
    """Several results of one operation."""


def several(tokens: int) -> Case:
    def case(draw: np.random.Generator) -> Any:
        stacks = [
            kernels.PlaneStack([random_plane(draw, b, rows, 100) for b in bits])
            for rows, bits in ((48, (2, 1)), (31, (2,)))
        ]
        return Together(kernels.project(normal(draw, tokens, 100), rotation(1, 100), stacks))

    return case


def top(rows: int, count: int, k: int) -> Case:
    def case(draw: np.random.Generator) -> Any:
        logits = np.round(normal(draw, rows, count) * 8)  # many are equal
        logits[:, 1:][normal(draw, rows, count - 1) > 1] = -np.inf
        return Together(kernels.softmax_top(logits, k))

    return case


def projection(rows: int, cols: int, bits: tuple[int, ...], tokens: int) -> Case:
    def case(draw: np.random.Generator) -> Any:
        planes = [random_plane(draw, b, rows, cols) for b in bits]
        return kernels.matmul_planes(kernels.quantize(normal(draw, tokens, cols)), planes)

    return case


def rounded_projection(rows: int, cols: int, tokens: int) -> Case:
    def case(draw: np.random.Generator) -> Any:
        matrix = rounded(normal(draw, rows, cols))
        return kernels.matmul_rounded(kernels.quantize(normal(draw, tokens, cols)), matrix)

    return case


def gather(rows: int, cols: int, bits: tuple[int, ...]) -> Case:
    def case(draw: np.random.Generator) -> Any:
        planes = [random_plane(draw, b, rows, cols) for b in bits]
        return kernels.gather_rows(planes, draw.integers(0, rows, 9))

    return case


def embed(rows: int, cols: int, bits: tuple[int, ...]) -> Case:
    def case(draw: np.random.Generator) -> Any:
        stack = kernels.PlaneStack([random_plane(draw, b, rows, cols) for b in bits])
        return kernels.embed_rows(stack, draw.integers(0, rows, 9), rotation(1, cols))

    return case


def decode(rows: int, cols: int, bits: int) -> Case:
    def case(draw: np.random.Generator) -> Any:
        plane = random_plane(draw, bits, rows, cols)
        return kernels.decode_plane(plane.spec, plane.codes)

    return case


def attend(*shape: int, rule: AttentionRule = RULE, values: int = 0, sinks: bool = False) -> Case:
    batch, tokens, heads, shared, width, start = shape

    def case(draw: np.random.Generator) -> Any:
        cache = (batch, shared, start + tokens + 3)
        q = normal(draw, batch, tokens, heads, width) * 3
        k, v = normal(draw, *cache, width), normal(draw, *cache, values or width)
        return kernels.attention(q, k, v, start, rule, normal(draw, heads) if sinks else None)

    return case


def paged(
    kind: str,
    heads: int,
    shared: int,
    widths: tuple[int, int],
    rule: AttentionRule = RULE,
    sinks: bool = False,
    ends: tuple[int, ...] = (200, 1, 64, 65, 130, 199, 7),
) -> Case:
    """Three streams whose pages lie about; rows of any of them, some next to each other."""

    def case(draw: np.random.Generator) -> Any:
        pages = Pages.allocate(14, shared, *widths, kind)
        tables = draw.permutation(14)[:12].reshape(3, 4).astype(np.int32)
        positions = np.arange(4 * PAGE)
        for table in tables:
            k, v = (normal(draw, len(positions), shared, width) for width in widths)
            slots = table[positions // PAGE].astype(np.int64) * PAGE + positions % PAGE
            kernels.store_pages(pages, k, v, slots)
        seen = np.array(ends, np.int32)
        q = normal(draw, len(seen), heads, widths[0]) * 2
        streams = draw.integers(0, 3, len(seen)).astype(np.int32)
        weights = normal(draw, heads) if sinks else None
        mixed = kernels.attend_pages(q, pages, tables, streams, seen, rule, weights)
        return Together((mixed, *pages.arrays))

    return case


def rotated(name: str, tokens: int, width: int) -> Case:
    return lambda draw: getattr(kernels, name)(normal(draw, tokens, width), rotation(1, width))


def positions(draw: np.random.Generator) -> Any:
    angles = normal(draw, 6, 8)
    return kernels.rope(normal(draw, 6, 3, 16), np.cos(angles), np.sin(angles))


CASES: dict[str, Case] = {
    **{
        f"matmul {rows}x{cols} planes {bits} tokens {tokens}": projection(rows, cols, bits, tokens)
        for rows, cols in SHAPES
        for bits in [(2,), (1,), (2, 1), (2, 2, 1)]
        for tokens in [1, 3, 17]
    },
    **{
        f"rounded {rows}x{cols} tokens {tokens}": rounded_projection(rows, cols, tokens)
        for rows, cols in SHAPES
        for tokens in [1, 8, 19]
    },
    **{f"gather {r}x{c} {b}": gather(r, c, b) for r, c in SHAPES for b in [(2,), (2, 1)]},
    **{f"embed {r}x{c} {b}": embed(r, c, b) for r, c in SHAPES for b in [(2,), (2, 1)]},
    **{f"decode {r}x{c} {b}": decode(r, c, b) for r, c in SHAPES for b in (1, 2)},
    **{
        f"{name} {tokens}x{width}": rotated(name, tokens, width)
        for name in ("rotate", "unrotate", "rotate_quantize")
        for tokens, width in [(1, 256), (3, 768), (2, 896), (5, 1), (2, 7), (40, 268)]
    },
    "quantize": lambda draw: kernels.quantize(normal(draw, 5, 45) * 100),
    "quantize silence": lambda draw: kernels.quantize(np.zeros((2, 8), np.float32)),
    "norm": lambda draw: kernels.rms_norm(normal(draw, 3, 256), normal(draw, 256), 1e-5),
    "norm, odd width": lambda draw: kernels.rms_norm(normal(draw, 4, 77), normal(draw, 77), 1e-6),
    "rope": positions,
    "swiglu": lambda draw: kernels.swiglu(normal(draw, 3, 771) * 30, normal(draw, 3, 771)),
    "clamped swiglu": lambda draw: kernels.clamped_swiglu(
        normal(draw, 3, 771) * 9, normal(draw, 3, 771) * 9
    ),
    "geglu": lambda draw: kernels.geglu(normal(draw, 3, 771) * 30, normal(draw, 3, 771)),
    "added norm": lambda draw: Together(
        kernels.add_rms_norm(normal(draw, 3, 77), normal(draw, 3, 77), normal(draw, 77), 1e-6)
    ),
    "project": several(5),
    "project more than a prompt": several(1030),
    **{f"top {k} of {n}": top(3, n, k) for n, k in [(1, 1), (37, 5), (5000, 20), (64, 64)]},
    **{
        f"pages {kind} {widths} {rule}": paged(kind, 6, 2, widths, rule, sinks)
        for kind in KINDS
        for widths in [(64, 64), (10, 6), (7, 40), (96, 128)]
        for rule, sinks in [(RULE, False), (WINDOW, True)]
    },
    **{f"pages {kind}, one row": paged(kind, 4, 1, (64, 64), ends=(256,)) for kind in KINDS},
    "pages, many rows": paged("k8v8", 8, 2, (32, 32), ends=tuple(range(1, 250, 2))),
    "pages, many heads": paged("k8v8", 96, 1, (48, 32), WINDOW, ends=(3, 250, 77)),
    "attention, one token": attend(1, 1, 4, 2, 64, 200),
    "attention, prompt": attend(2, 33, 4, 2, 64, 0),
    "attention, odd head": attend(1, 5, 3, 1, 10, 4),
    "attention, small head": attend(3, 2, 8, 4, 8, 18),
    "attention, window": attend(2, 40, 4, 2, 64, 7, rule=AttentionRule(0.2, window=13)),
    "attention, soft cap": attend(1, 9, 4, 4, 32, 30, rule=AttentionRule(0.7, softcap=5.0)),
    "attention, sinks": attend(1, 9, 6, 2, 24, 3, rule=AttentionRule(0.7, 4, 5.0), sinks=True),
    "attention, narrow values": attend(1, 5, 6, 1, 40, 20, rule=AttentionRule(0.4), values=24),
}


def test_a_native_path_was_built() -> None:
    """The rest of this table would pass over nothing otherwise."""
    assert NATIVE, kernels.load_error()


@pytest.mark.parametrize("path", NATIVE)
@pytest.mark.parametrize("name", CASES)
def test_twin(name: str, path: str) -> None:
    seed = sum(map(ord, name))
    with kernels.using("numpy"):
        expected = CASES[name](np.random.default_rng(seed))
    with kernels.using(path):
        result = CASES[name](np.random.default_rng(seed))
    if is_dataclass(expected):
        expected, result = astuple(expected), astuple(result)
    elif not isinstance(expected, Together):
        expected, result = [expected], [result]
    for mine, theirs in zip(result, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs, strict=True)


def test_exp_is_close_to_exp() -> None:
    from h2q.kernels import twins

    x = np.linspace(-86, 87, 20_001).astype(np.float32)
    relative = twins.exp(x).astype(np.float64) / np.exp(x.astype(np.float64)) - 1
    assert np.abs(relative).max() < 2.5e-7
