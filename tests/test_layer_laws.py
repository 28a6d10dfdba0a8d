"""Whole layers in one call: the twin's bits, and those of its operations one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2q import kernels
from h2q.codec.pages import PAGE, Pages
from h2q.core.attention import AttentionRule
from h2q.core.errors import KernelError
from h2q.crystal import Crystal
from h2q.engine import load_crystal
from h2q.engine.page_pool import PagePool
from h2q.engine.rows import Rows, Span
from h2q.engine.sinks import make_room
from h2q.engine.stream import Stream
from h2q.geometry.rotation import rotation
from planes import NATIVE, normal, random_stack

pytestmark = pytest.mark.usefixtures("two_threads")
HEAD = 16
STREAMS = np.array([0, 1, 1], np.int32)


def random_layer(draw: np.random.Generator, kv: int, groups: int, **more: Any) -> Any:
    width, inner, queries, keys = 96, 80, kv * groups * HEAD, kv * HEAD
    shapes = [(queries, width), (keys, width), (keys, width), (width, queries)]
    shapes += [(inner, width), (inner, width), (width, inner)]
    optional = more.pop("optional")

    def vector(size: int, wanted: bool = True) -> np.ndarray | None:
        return normal(draw, size) if wanted else None

    first, second = vector(width), vector(width)
    assert first is not None
    assert second is not None
    return kernels.LayerOperands(
        name="layer",
        turns=[rotation(7, size) for size in (width, queries, width, inner)],
        stacks=[kernels.PlaneStack(random_stack(draw, (2, 1), *shape)) for shape in shapes],
        biases=[vector(rows, optional) for rows, _ in shapes],
        input_norm=first,
        post_norm=second,
        q_norm=vector(HEAD, optional),
        k_norm=vector(HEAD, optional),
        after_attention=vector(width, optional),
        after_mlp=vector(width, optional),
        heads=kv * groups,
        kv_heads=kv,
        head_dim=HEAD,
        eps=1e-5,
        **more,
    )


def stacked(pages: list[Pages], layer: Any, turned: int = 0) -> kernels.StackedLayers:
    """The same layer over and over, each with pages of its own."""
    turns = np.full(len(pages), 0 if turned else -1, np.int32)
    return kernels.StackedLayers([layer] * len(pages), pages, turns)


def place(rows: int) -> kernels.StepRows:
    return kernels.StepRows(
        slots=np.array([5 * PAGE + 3, 2 * PAGE, 2 * PAGE + 1][:rows]),
        tables=np.array([[5], [2]], np.int32),
        streams=STREAMS[:rows],
        seen=np.array([4, 1, 2][:rows], np.int32),
    )


@settings(deadline=None, max_examples=12)
@given(
    kv=st.integers(1, 2),
    groups=st.integers(1, 3),
    rows=st.integers(1, 3),
    count=st.integers(1, 3),
    turned=st.sampled_from([0, 8, HEAD]),
    optional=st.booleans(),
    act=st.sampled_from(["silu", "gelu_pytorch_tanh"]),
    multiplier=st.sampled_from([1.0, 0.22]),
    window=st.sampled_from([0, 2]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_twins_bits(
    kv: int,
    groups: int,
    rows: int,
    count: int,
    turned: int,
    optional: bool,
    act: str,
    multiplier: float,
    window: int,
    seed: int,
) -> None:
    draw = np.random.default_rng(seed)
    rule = AttentionRule(0.2, window)
    layer = random_layer(
        draw, kv, groups, optional=optional, act=act, multiplier=multiplier, rule=rule
    )
    x = normal(draw, rows, 96)
    turns = draw.uniform(0, 6, (rows, turned // 2))
    angles = [np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)]
    found = {}
    for path in [kernels.NUMPY, *NATIVE]:
        pages = [Pages.allocate(6, kv, HEAD, HEAD) for _ in range(count)]
        with kernels.using(path):
            out = kernels.run_layers(stacked(pages, replace(layer), turned), x, angles, place(rows))
        found[path] = out, *(array for one in pages for array in (one.keys, one.values))
    for path in NATIVE:
        for mine, twins in zip(found[path], found[kernels.NUMPY], strict=True):
            np.testing.assert_array_equal(mine, twins, path)


@pytest.mark.parametrize("path", kernels.available())
def test_a_value_that_is_not_finite_is_named(path: str) -> None:
    layer = random_layer(
        np.random.default_rng(1),
        1,
        1,
        optional=False,
        act="silu",
        multiplier=1.0,
        rule=AttentionRule(0.2),
    )
    pages = Pages.allocate(6, 1, HEAD, HEAD)
    x = np.full((1, 96), np.nan, np.float32)
    with kernels.using(path), pytest.raises(KernelError, match="not a finite number"):
        kernels.run_layers(stacked([pages], layer), x, [], place(1))


@pytest.mark.skipif(not NATIVE, reason="the extension is not there")
@pytest.mark.parametrize("wrong", ["slots", "tables", "streams", "seen", "x", "pages"])
def test_what_does_not_fit_is_refused(wrong: str) -> None:
    layer = random_layer(
        np.random.default_rng(1),
        1,
        1,
        optional=False,
        act="silu",
        multiplier=1.0,
        rule=AttentionRule(0.2),
    )
    where, x = place(1), np.ones((1, 96), np.float32)
    pages = Pages.allocate(6, 2 if wrong == "pages" else 1, HEAD, HEAD)
    if wrong == "x":
        x = np.ones((1, 64), np.float32)
    elif wrong != "pages":
        where = replace(where, **{wrong: getattr(where, wrong) + 1000})
    with kernels.using(NATIVE[0]), pytest.raises(KernelError):
        kernels.run_layers(stacked([pages], layer), x, [], where)


def test_a_model_gives_the_bits_of_its_operations(seed_crystal: Crystal) -> None:
    model = load_crystal(seed_crystal)
    tokens = list(range(40, 80))

    def logits() -> np.ndarray:
        stream = Stream(PagePool(model.spec, 2, "k8v8"), tokens, 0)
        make_room(model, stream, len(tokens))
        rows = Rows(stream.pool, [Span(stream, 0, len(tokens))])
        return model.step(rows.tokens, rows.positions, rows, rows.last)

    whole = logits()
    shown: list[str] = []
    model.observer = lambda name, x: shown.append(name)
    np.testing.assert_array_equal(logits(), whole)
    assert shown
