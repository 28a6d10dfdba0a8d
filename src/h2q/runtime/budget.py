"""How a promise of memory is kept: what takes part is chosen before anything is loaded.

`memory` bounds the resident set of the whole process, and mapped pages count. So weights count from
the first touch, however clean they are; the cache counts in full, as if every position were
written; a step's arrays at their largest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from h2q.codec.pages import PAGE
from h2q.core.errors import ResourceError
from h2q.core.paging import PAGE as SYSTEM_PAGE
from h2q.core.units import format_bytes
from h2q.crystal import Crystal
from h2q.engine.arriving import arrivals
from h2q.engine.scheduler import STEP_ROWS
from h2q.engine.scratch import LATER, scratch_bytes
from h2q.runtime.pool import page_bytes
from h2q.runtime.worker import Order

LEAST_CONTEXT = 4 * PAGE
COMFORT = 2048  # positions that come before refinement
SLOTS = 2  # layers in memory when they are streamed: one computes, one is read
FEWER_ROWS = (128, 64, 32, 16)


@dataclass(frozen=True)
class Plan:
    """What was chosen; bytes. `groups` of refinement, `context` positions of the cache, `streams`
    at once, `rows` of a step; `streamed`: layers are read from the disk for every token.
    """

    memory: int
    interpreter: int
    weights: int
    cache: int
    scratch: int
    groups: int
    context: int
    streams: int
    rows: int
    streamed: bool = False

    @property
    def total(self) -> int:
        """Bytes at most in use, all of them together."""
        return self.interpreter + LATER + self.weights + self.cache + self.scratch

    def words(self) -> str:
        """One line for a person."""
        return (
            f"interpreter {format_bytes(self.interpreter + LATER)}, weights "
            f"{format_bytes(self.weights)} ({1 + self.groups} planes), cache "
            f"{format_bytes(self.cache)} ({self.context:,} positions), scratch "
            f"{format_bytes(self.scratch)} ({self.streams} streams, {self.rows} rows)"
        )


def shard_bytes(crystal: Crystal, groups: int) -> int:
    """Of mapped shards, whole pages: the base and so many refinement groups."""
    files = crystal.manifest.files[: 1 + groups]
    return sum(-(-file.bytes // SYSTEM_PAGE) * SYSTEM_PAGE for file in files)


def streamed_bytes(crystal: Crystal) -> int:
    """In memory when layers are streamed: all of the base but its layers, and slots for some."""
    first, ends, last = arrivals(crystal)
    largest = max(end - begin for begin, end in zip([first, *ends], ends, strict=False))
    rest = first + last - ends[-1]
    return rest + SLOTS * (-(-largest // SYSTEM_PAGE) + 1) * SYSTEM_PAGE + 4 * SYSTEM_PAGE


def plan(crystal: Crystal, order: Order, interpreter: int) -> Plan:
    """The best that fits `order.memory`, beside an interpreter of so many bytes: most planes first,
    then more context, then more rows at once. Dense models that do not fit are streamed. Raises
    ResourceError, with numbers, when nothing fits.
    """
    assert order.memory is not None
    found = [made for size in _sizes(order) if (made := _fitted(crystal, order, interpreter, size))]
    if found:
        return max(found, key=lambda p: (p.groups, min(p.context, COMFORT), p.rows, p.streams))
    if _streamable(crystal, order):
        for size in _sizes(order):
            if made := _fitted(crystal, order, interpreter, size, streamed=True):
                return made
    raise _too_small(crystal, order, interpreter)


def _streamable(crystal: Crystal, order: Order) -> bool:
    """Whether reading layers for every step is possible, and saves anything."""
    spec = crystal.spec
    dense = spec.experts is None and spec.latent is None  # a latent's matrices are kept decoded
    return dense and not order.draft and streamed_bytes(crystal) < shard_bytes(crystal, 0)


def _sizes(order: Order) -> Iterator[tuple[int, int]]:
    """Rows and streams, most first."""
    yield max(STEP_ROWS, order.streams), order.streams
    for rows in FEWER_ROWS:
        yield rows, min(order.streams, max(1, rows // 8))
    yield FEWER_ROWS[-1], 1


def _limit(crystal: Crystal, order: Order) -> int:
    return order.context or crystal.spec.max_position_embeddings


def _fitted(
    crystal: Crystal,
    order: Order,
    interpreter: int,
    size: tuple[int, int],
    streamed: bool = False,
) -> Plan | None:
    assert order.memory is not None
    rows, streams = size
    spec, limit = crystal.spec, _limit(crystal, order)
    scratch = scratch_bytes(spec, rows, streams * (1 + order.draft))
    page = page_bytes(spec, order.cache)
    room = order.memory - interpreter - LATER - scratch
    base = streamed_bytes(crystal) if streamed else shard_bytes(crystal, 0)
    least = -(-limit // PAGE) if order.context else -(-min(limit, LEAST_CONTEXT) // PAGE)
    if room < base + least * page:
        return None
    comfort = max(least, -(-min(limit, COMFORT) // PAGE))
    most = 0 if streamed else len(crystal.rank)
    if order.groups is not None:
        most = min(most, order.groups)
    groups = 0
    while groups < most and room >= shard_bytes(crystal, groups + 1) + comfort * page:
        groups += 1
    weights = base if streamed else shard_bytes(crystal, groups)
    pages = min(-(-limit // PAGE), (room - weights) // page)
    context = min(limit, pages * PAGE)
    parts = (weights, pages * page, scratch, groups, context)
    return Plan(order.memory, interpreter, *parts, streams, rows, streamed)


def _too_small(crystal: Crystal, order: Order, interpreter: int) -> ResourceError:
    assert order.memory is not None
    spec, (rows, streams) = crystal.spec, list(_sizes(order))[-1]
    page, limit = page_bytes(spec, order.cache), _limit(crystal, order)
    scratch = scratch_bytes(spec, rows, streams * (1 + order.draft))
    can_stream = _streamable(crystal, order)
    base = streamed_bytes(crystal) if can_stream else shard_bytes(crystal, 0)
    fixed = interpreter + LATER + scratch + base
    least = -(-(limit if order.context else min(limit, LEAST_CONTEXT)) // PAGE)
    needed = fixed + least * page
    largest = (order.memory - fixed) // page * PAGE
    fits = (
        f"The largest context that fits is {largest:,} positions"
        if largest >= PAGE
        else f"Without any context it takes {format_bytes(fixed)}"
    )
    told = "its layers read from the disk for every token" if can_stream else "base planes alone"
    return ResourceError(
        f"The model needs {needed:,} bytes ({format_bytes(needed)}) at least, {told}, and may have "
        f"{order.memory:,} ({format_bytes(order.memory)}): interpreter "
        f"{format_bytes(interpreter + LATER)}, weights {format_bytes(base)}, a cache of "
        f"{least * PAGE:,} positions {format_bytes(least * page)}, scratch "
        f"{format_bytes(scratch)}.",
        where=crystal.path.name,
        fix=f"{fits}; give it more memory, a smaller context, or a ring of constant memory.",
    )
