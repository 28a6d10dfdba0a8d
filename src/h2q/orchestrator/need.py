"""How much memory a model needs, before it is started."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from h2q.runtime.worker import Order

INTERPRETER = 112 << 20  # of a worker's process before its model is there; more than is measured
SHARE = 4  # the cache takes at most the fourth part of the budget
FEW = 2048  # positions that a cache has even where that is more
CONTEXTS = 4  # in full, that the cache holds where it can
EASILY = 8  # up to this part of the share, the cache holds the contexts of all streams


@dataclass(frozen=True)
class Need:
    """Bytes resident: `least` with what runtime.budget can still start, `most` with all planes and
    a cache for several contexts, which `context` says in positions.
    """

    least: int
    most: int
    context: int

    def granted(self, order: Order, memory: int) -> Order:
        """The order under a promise of `memory` bytes: less than the most leaves the size of the
        cache to the worker.
        """
        context = self.context if memory >= self.most else order.context
        return replace(order, memory=memory, context=context)


def need_of(order: Order, budget: int) -> Need:
    """What an order needs of a budget in bytes, by what its worker will reckon with. Raises
    CrystalError.
    """
    from h2q.codec.pages import PAGE
    from h2q.crystal import open_crystal
    from h2q.engine.scheduler import STEP_ROWS
    from h2q.engine.scratch import LATER, scratch_bytes
    from h2q.runtime.budget import (
        FEWER_ROWS,
        LEAST_CONTEXT,
        shard_bytes,
        streamed_bytes,
    )
    from h2q.runtime.pool import page_bytes

    crystal = open_crystal(Path(order.crystal))
    spec, page = crystal.spec, page_bytes(crystal.spec, order.cache)
    limit = spec.max_position_embeddings
    context = order.context
    if context is None:
        fits = max(budget // SHARE // page * PAGE, min(limit, FEW))
        context = max(min(limit * CONTEXTS, fits), min(limit * order.streams, fits // EASILY))
    groups = len(crystal.rank) if order.groups is None else order.groups
    begin, voices = INTERPRETER + LATER, 1 + order.draft
    most = begin + shard_bytes(crystal, groups) + -(-context // PAGE) * page
    most += scratch_bytes(spec, max(STEP_ROWS, order.streams), order.streams * voices)
    base = shard_bytes(crystal, 0)
    if spec.experts is None and not order.draft:
        base = min(base, streamed_bytes(crystal))
    few = order.context or min(limit, LEAST_CONTEXT)
    least = begin + base + -(-few // PAGE) * page + scratch_bytes(spec, FEWER_ROWS[-1], voices)
    return Need(min(least, most), most, context)
