"""Arenas: what is taken, given back, measured; and that nothing grows over many requests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2q.core.errors import ResourceError, UsageError
from h2q.core.paging import PAGE
from h2q.runtime.pool import Arena, MemoryPool, heap

MIB = 1 << 20


def test_memory_is_taken_when_written_and_goes_back() -> None:
    arena = Arena("a", 8 * MIB)
    assert arena.state().resident == 0
    array = arena.array((4, MIB), np.uint8)
    assert not array.any()
    array[:] = 1
    state = arena.state()
    assert state.used == state.high_water == 4 * MIB
    assert 4 * MIB <= state.resident <= 4 * MIB + PAGE
    arena.give(array)
    assert arena.state().resident <= PAGE
    assert arena.state().used == 0
    assert arena.state().high_water == 4 * MIB
    assert not arena.array((8, MIB), np.uint8).any()


def test_what_does_not_fit_is_refused_with_numbers() -> None:
    pool = MemoryPool(10 * MIB)
    pool.reserve("weights", 6 * MIB)
    with pytest.raises(
        ResourceError, match=r"5\.0 MiB for cache do not fit: 6\.0 MiB of 10\.0 MiB"
    ):
        pool.arena("cache", 5 * MIB)
    arena = pool.arena("cache", 4 * MIB)
    assert pool.free == 0
    with pytest.raises(UsageError, match="already"):
        pool.arena("cache", 1)
    arena.array((3 * MIB,), np.uint8)
    with pytest.raises(ResourceError, match=r"no block of 2\.0 MiB: 1\.0 MiB of 4\.0 MiB"):
        arena.array((2 * MIB,), np.uint8)
    with pytest.raises(UsageError, match="has not given"):
        arena.give(np.zeros(3))


@given(st.lists(st.tuples(st.integers(1, 40_000), st.booleans()), max_size=30))
def test_blocks_never_meet_and_all_of_it_comes_back(steps: list[tuple[int, bool]]) -> None:
    arena = Arena("a", MIB)
    held: list[tuple[np.ndarray, int]] = []
    for index, (size, take) in enumerate(steps, 1):
        if take or not held:
            array = arena.array((size,), np.uint8)
            assert not array.any()
            array[:] = index
            held.append((array, index))
        else:
            arena.give(held.pop(size % len(held))[0])
        assert all((array == mark).all() for array, mark in held)
        assert 0 <= arena.state().fragmentation < 1
    for array, _ in held:
        arena.give(array)
    state = arena.state()
    assert (state.used, state.fragmentation) == (0, 0)
    assert arena.array((MIB,), np.uint8).nbytes == MIB


def test_fragmentation_is_what_the_largest_hole_leaves() -> None:
    arena = Arena("a", 4 * MIB)
    arrays = [arena.array((MIB,), np.uint8) for _ in range(4)]
    arena.give(arrays[0])
    arena.give(arrays[2])
    assert arena.state().fragmentation == 0.5
    arena.give(arrays[1])
    assert arena.state().fragmentation == 0


def test_the_heap_tells_what_it_holds() -> None:
    before = heap()
    if before.used == 0:
        pytest.skip("this C library does not tell")
    array = np.ones(4 * MIB, np.uint8)
    assert heap().used >= before.used + array.nbytes - MIB
    assert 0 <= heap().fragmentation < 1
