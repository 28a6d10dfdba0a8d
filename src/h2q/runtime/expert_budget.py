"""How a promise of memory is kept by a model whose experts do not all fit: the rest of it is in
memory, experts share what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from h2q.codec.pages import PAGE
from h2q.core import paging
from h2q.core.errors import ResourceError
from h2q.core.mlp_tensors import is_expert
from h2q.core.units import format_bytes
from h2q.crystal import Crystal, mapped
from h2q.crystal.manifest import shard_name
from h2q.engine.scheduler import STEP_ROWS
from h2q.engine.scratch import LATER, expanded_bytes, scratch_bytes
from h2q.runtime.budget import (
    COMFORT,
    FEWER_ROWS,
    LEAST_CONTEXT,
    Plan,
    plan,
)
from h2q.runtime.pool import page_bytes
from h2q.runtime.worker import Order

BOOK = 40 << 10  # of what is known about one expert: where it lies, what the kernels prepared
ENOUGH = 0.2  # of all experts' bytes: with less room, planes above the base are left on the disk


@dataclass(frozen=True)
class ExpertPlan(Plan):
    """experts: bytes for experts, among those of `weights`."""

    experts: int = 0


def expert_plan(crystal: Crystal, order: Order, interpreter: int) -> Plan:
    """As `plan`, but experts stay on disk where not all that was ordered fits. Raises
    ResourceError, with numbers, when nothing fits.
    """
    if crystal.spec.experts is None:
        return plan(crystal, order, interpreter)
    most = len(crystal.rank) if order.groups is None else min(order.groups, len(crystal.rank))
    refused: ResourceError | None = None
    try:
        whole = plan(crystal, order, interpreter)
        if whole.groups == most and whole.memory >= whole.total + expanded_bytes(crystal.spec):
            return whole
    except ResourceError as error:
        refused = error
    found = [_fitted(crystal, order, interpreter, groups) for groups in range(most, -1, -1)]
    every = expert_bytes(crystal, most)
    for made in found:
        if made is not None and made.experts >= ENOUGH * expert_bytes(crystal, made.groups):
            return made
    if found[-1] is not None:
        return found[-1]
    raise refused or ResourceError(
        f"What all tokens need of the model does not fit {format_bytes(order.memory or 0)}, its "
        f"experts ({format_bytes(every)}) left on the disk.",
        where=crystal.path.name,
        fix="Give it more memory, or a smaller context.",
    )


def expert_bytes(crystal: Crystal, groups: int) -> int:
    """Of all experts with so many refinement groups."""
    return _bytes(crystal, groups, True)


def other_bytes(crystal: Crystal, groups: int) -> int:
    """Of everything else in the shards, whole pages."""
    return _bytes(crystal, groups, False)


def _bytes(crystal: Crystal, groups: int, experts: bool) -> int:
    found = 0
    for shard in range(1 + groups):
        entries = crystal.entries(shard)
        spans = [(e.begin, e.end) for e in entries.values() if _leaves(e.name) == experts]
        path, data = crystal.path / shard_name(shard), crystal.mapped(shard)
        found += mapped.byte_count(mapped.stretches(path, data, spans))
    return found


def _leaves(name: str) -> bool:
    """Whether it is given back with its expert: planes are, biases stay."""
    return is_expert(name) and not name.endswith(".bias")


def _fitted(crystal: Crystal, order: Order, interpreter: int, groups: int) -> ExpertPlan | None:
    """With the most rows that leave experts some room."""
    assert order.memory is not None
    assert crystal.spec.experts is not None
    spec, limit = crystal.spec, order.context or crystal.spec.max_position_embeddings
    layers = sum(map(crystal.spec.experts.mixed, range(spec.num_hidden_layers)))
    count = layers * crystal.spec.experts.num_experts
    largest = 2 * (expert_bytes(crystal, groups) // count + 2 * paging.PAGE)
    others = other_bytes(crystal, groups) + expanded_bytes(spec) + count * BOOK
    page = page_bytes(spec, order.cache)
    sizes = [(max(STEP_ROWS, order.streams), order.streams)]
    sizes += [(rows, min(order.streams, max(1, rows // 8))) for rows in FEWER_ROWS]
    for context in (order.context or min(limit, COMFORT), order.context or LEAST_CONTEXT):
        pages = -(-min(limit, context) // PAGE)
        for rows, streams in sizes:
            scratch = scratch_bytes(spec, rows, streams)
            left = order.memory - interpreter - LATER - scratch - others - pages * page
            if left >= max(
                largest, ENOUGH * expert_bytes(crystal, groups) * (rows > FEWER_ROWS[-1])
            ):
                return ExpertPlan(
                    memory=order.memory,
                    interpreter=interpreter,
                    weights=others + left,
                    cache=pages * page,
                    scratch=scratch,
                    groups=groups,
                    context=min(limit, pages * PAGE),
                    streams=streams,
                    rows=rows,
                    experts=left,
                )
    return None
