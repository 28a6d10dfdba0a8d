"""What attention over pages keeps for any shape: the twin's bits, close to exact attention over
what is stored, a row's bits whatever its neighbours; and one error of our own for what cannot be
worked on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2q import kernels
from h2q.codec.pages import KINDS, PAGE, Pages, read_pages
from h2q.core.attention import AttentionRule
from h2q.core.errors import KernelError, UsageError
from h2q.geometry.rotation import rotation
from planes import NATIVE, moved, normal, random_stack

pytestmark = pytest.mark.usefixtures("two_threads")
TABLES = np.array([[5, 0, 7], [2, 1, 6]], np.int32)
POSITIONS = np.arange(PAGE * TABLES.shape[1])


def filled(
    draw: np.random.Generator, kind: str, shared: int, widths: tuple[int, int]
) -> tuple[Pages, list[np.ndarray]]:
    """Two streams, and the slots of each."""
    pages = Pages.allocate(8, shared, *widths, kind)
    slots = [
        table[POSITIONS // PAGE].astype(np.int64) * PAGE + POSITIONS % PAGE for table in TABLES
    ]
    for where in slots:
        k, v = (normal(draw, len(where), shared, width) for width in widths)
        kernels.store_pages(pages, k, v, where)
    return pages, slots


def exact(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, end: int, rule: AttentionRule, sinks: np.ndarray
) -> np.ndarray:
    """One row in float64, by the book."""
    first = max(0, end - rule.window) if rule.window else 0
    groups = len(q) // k.shape[1]
    keys, values = (np.repeat(x[first:end].astype(float), groups, axis=1) for x in (k, v))
    scores = np.einsum("hd,phd->hp", q.astype(float), keys) * rule.scale
    if rule.softcap:
        scores = rule.softcap * np.tanh(scores / rule.softcap)
    weights = np.exp(scores)
    total = weights.sum(axis=1) + np.exp(sinks.astype(float))
    return np.einsum("hp,phd->hd", weights, values).reshape(-1) / np.repeat(total, v.shape[2])


@settings(deadline=None, max_examples=15)
@given(
    kind=st.sampled_from(KINDS),
    shared=st.integers(1, 3),
    groups=st.integers(1, 5),
    widths=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    rule=st.builds(
        AttentionRule, st.just(0.2), st.sampled_from([0, 1, 50, 64, 500]), st.sampled_from([0, 4.0])
    ),
    ends=st.lists(st.integers(1, len(POSITIONS)), min_size=1, max_size=9),
    seed=st.integers(0, 2**32 - 1),
)
def test_rows(
    kind: str,
    shared: int,
    groups: int,
    widths: tuple[int, int],
    rule: AttentionRule,
    ends: list[int],
    seed: int,
) -> None:
    draw = np.random.default_rng(seed)
    pages, slots = filled(draw, kind, shared, widths)
    heads, seen = shared * groups, np.array(ends, np.int32)
    q, sinks = normal(draw, len(ends), heads, widths[0]), normal(draw, heads)
    streams = draw.integers(0, 2, len(ends)).astype(np.int32)
    with kernels.using(kernels.NUMPY):
        twin = kernels.attend_pages(q, pages, TABLES, streams, seen, rule, sinks)
    kept = [read_pages(pages, where) for where in slots]
    for row, (stream, end) in enumerate(zip(streams, ends, strict=True)):
        expected = exact(q[row], *kept[stream], end, rule, sinks)
        np.testing.assert_allclose(twin[row], expected, atol=2e-3)
    for path in NATIVE:
        with kernels.using(path):
            found = kernels.attend_pages(q, pages, TABLES, streams, seen, rule, sinks)
            np.testing.assert_array_equal(found, twin, path)
            for row in {0, len(ends) - 1}:
                one = slice(row, row + 1)
                alone = kernels.attend_pages(
                    q[one], pages, TABLES, streams[one], seen[one], rule, sinks
                )
                np.testing.assert_array_equal(alone, twin[one], path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_comes_back(kind: str) -> None:
    draw = np.random.default_rng(1)
    pages = Pages.allocate(3, 2, 96, 64, kind)
    k, v = normal(draw, 70, 2, 96), normal(draw, 70, 2, 64)
    slots = draw.permutation(3 * PAGE)[:70].astype(np.int64)
    kernels.store_pages(pages, k, v, slots)
    keys, values = read_pages(pages, slots)
    ceiling = {"k8v8": (0.02, 0.02), "k8v4": (0.02, 0.25), "f16": (5e-4, 5e-4)}[kind]
    for kept, given_, limit in zip((keys, values), (k, v), ceiling, strict=True):
        assert np.sqrt(np.mean((kept - given_) ** 2)) < limit


@pytest.mark.parametrize("path", kernels.available())
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_of_equal_slots_stays(kind: str, path: str) -> None:
    draw = np.random.default_rng(2)
    k, v = normal(draw, 5, 2, 8), normal(draw, 5, 2, 8)
    twice, once = (Pages.allocate(1, 2, 8, 8, kind) for _ in range(2))
    with kernels.using(path):
        kernels.store_pages(twice, k, v, np.array([7, 6, 7, 8, 7]))
        kernels.store_pages(once, k[[1, 3, 4]], v[[1, 3, 4]], np.array([6, 8, 7]))
    for mine, theirs in zip(twice.arrays, once.arrays, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("path", kernels.available())
def test_storing_and_attending_at_once(path: str) -> None:
    draw = np.random.default_rng(3)
    pages, _ = filled(draw, "k8v8", 2, (16, 16))
    other, _ = filled(np.random.default_rng(3), "k8v8", 2, (16, 16))
    q, k, v = normal(draw, 2, 4, 16), normal(draw, 2, 2, 16), normal(draw, 2, 2, 16)
    slots, ends = np.array([5 * PAGE + 3, 2 * PAGE + 9]), np.array([4, 10], np.int32)
    where = (TABLES, np.array([0, 1], np.int32), ends, AttentionRule(0.25))
    with kernels.using(path):
        found = kernels.store_attend(pages, q, k, v, slots, *where)
        kernels.store_pages(other, k, v, slots)
        np.testing.assert_array_equal(found, kernels.attend_pages(q, other, *where))


@pytest.mark.parametrize("path", kernels.available())
def test_addresses_gaps_and_no_rows(path: str) -> None:
    draw = np.random.default_rng(4)
    pages, _ = filled(draw, "k8v4", 2, (10, 6))
    q, ends = normal(draw, 3, 4, 10), np.array([9, 100, 192], np.int32)
    streams, rule = np.array([1, 0, 1], np.int32), AttentionRule(0.3)
    with kernels.using(path):
        expected = kernels.attend_pages(q, pages, TABLES, streams, ends, rule)
        arrays = (moved(q, 3), pages, *(moved(x, 5) for x in (TABLES, streams, ends)))
        np.testing.assert_array_equal(kernels.attend_pages(*arrays, rule), expected)
        wide = np.repeat(q, 2, axis=2)[:, :, ::2]
        found = kernels.attend_pages(wide, pages, TABLES, streams, ends, rule)
        np.testing.assert_array_equal(found, expected)
        nothing = kernels.attend_pages(q[:0], pages, TABLES, streams[:0], ends[:0], rule)
        assert nothing.shape == (0, 24)
        kernels.store_pages(pages, q[:0, :2], normal(draw, 0, 2, 6), np.empty(0, np.int64))


def wrong_calls() -> dict[str, Callable[[], Any]]:
    draw = np.random.default_rng(5)
    pages = Pages.allocate(8, 2, 16, 16)
    q, k = normal(draw, 2, 4, 16), normal(draw, 2, 2, 16)
    streams, ends, rule = np.zeros(2, np.int32), np.array([1, 192], np.int32), AttentionRule(1)
    bad = q.copy()
    bad[1, 3, 15] = np.nan

    def attend(**other: Any) -> Callable[[], Any]:
        arguments = {"q": q, "tables": TABLES, "streams": streams, "seen": ends} | other
        return lambda: kernels.attend_pages(pages=pages, rule=rule, **arguments)

    def store(slots: list[int], keys: np.ndarray = k, values: np.ndarray = k) -> Callable[[], Any]:
        return lambda: kernels.store_pages(pages, keys, values, np.array(slots, np.int64))

    return {
        "no stream": attend(streams=streams - 1),
        "a stream too many": attend(streams=streams + 2),
        "nothing seen": attend(seen=ends - 1),
        "too much seen": attend(seen=ends + 1),
        "a page too many": attend(tables=TABLES + 1),
        "no page": attend(tables=TABLES - 1),
        "a query that is not finite": attend(q=bad),
        "a slot too many": store([0, 8 * PAGE]),
        "no slot": store([-1, 0]),
        "a key that is not finite": store([0, 1], keys=bad[:, 2:]),
        "a value that is not finite": store([0, 1], values=bad[:, 2:]),
    }


@pytest.mark.parametrize("path", kernels.available())
@pytest.mark.parametrize("name", wrong_calls())
def test_wrong_calls_are_refused(path: str, name: str) -> None:
    with kernels.using(path), pytest.raises(KernelError):
        wrong_calls()[name]()


@pytest.mark.parametrize("path", NATIVE)
def test_wrong_shapes_are_refused(path: str) -> None:
    draw = np.random.default_rng(6)
    pages, one = Pages.allocate(2, 2, 16, 16), np.zeros(1, np.int32)
    tables, rule = np.zeros((1, 1), np.int32), AttentionRule(1)
    with kernels.using(path):
        for shape in ((1, 3, 16), (1, 4, 15)):
            with pytest.raises(KernelError):
                kernels.attend_pages(normal(draw, *shape), pages, tables, one, one + 1, rule)
        with pytest.raises(KernelError):
            kernels.store_pages(
                pages, normal(draw, 1, 1, 16), normal(draw, 1, 2, 16), np.array([0])
            )
        q = normal(draw, 1, 2, 16)
        with pytest.raises(KernelError):
            kernels.attend_pages(q, pages, tables, one, one + 1, rule, np.zeros(3, np.float32))


def test_pages_that_cannot_be() -> None:
    for arguments in (
        (0, 1, 8, 8),
        (1, 0, 8, 8),
        (1, 1, 0, 8),
        (1, 1, 8, 4096),
        (1, 1, 8, 8, "k2"),
    ):
        with pytest.raises(UsageError):
            Pages.allocate(*arguments)


@pytest.mark.parametrize("path", kernels.available())
@pytest.mark.parametrize("bad", [np.nan, np.inf, None])
def test_logits_that_make_no_distribution(path: str, bad: float | None) -> None:
    logits = np.full((2, 40), -np.inf, np.float32)
    logits[0] = 1
    if bad is not None:
        logits[1], logits[1, 39] = 0, bad
    with kernels.using(path):
        with pytest.raises(KernelError):
            kernels.softmax_top(logits, 3)
        for k in (0, 41):
            with pytest.raises(KernelError):
                kernels.softmax_top(logits[:1], k)


@pytest.mark.parametrize("path", kernels.available())
def test_a_projection_refuses_what_is_not_finite(path: str) -> None:
    stack = kernels.PlaneStack(random_stack(np.random.default_rng(0), (2,), 48, 64))
    x = np.ones((2, 64), np.float32)
    with kernels.using(path):
        assert kernels.project(x[:0], rotation(0, 64), [stack])[0].shape == (0, 48)
        with pytest.raises(KernelError), np.errstate(invalid="ignore"):
            kernels.project(x * np.float32("nan"), rotation(0, 64), [stack])
