"""What a target means in bytes, and whether a model can be that small at all."""

from __future__ import annotations

import math
from collections.abc import Mapping

from h2q.codec.pages import PAGE
from h2q.core.architecture import coded, tensors
from h2q.core.errors import QualityError
from h2q.core.specs import ModelSpec
from h2q.core.units import format_bytes
from h2q.crystal.sizes import prefix_bytes
from h2q.crystallize.allocate import TOWERS, Judge, plan_for_bytes
from h2q.crystallize.options import Options
from h2q.engine.page_pool import PagePool

PROCESS_BYTES = 80 << 20  # a talking process without weights and cache
SERVED_CONTEXT = 4096
SLACK = 256  # bytes by which headers may be longer than foretold
ROUNDS = 8  # of fitting a plan into its budget


def parameters(spec: ModelSpec) -> int:
    """Numbers in all tensors."""
    return sum(math.prod(t.shape) for t in tensors(spec))


def budget_bytes(spec: ModelSpec, options: Options) -> int | None:
    """Bytes of the crystal, headers included; None where quality is the target."""
    count = parameters(spec)
    if options.ratio is not None:
        return int(4 * count / options.ratio)
    if options.bits is not None:
        return int(options.bits * count / 8)
    if options.size is not None or options.memory is None:
        return options.size
    context = min(spec.max_position_embeddings, SERVED_CONTEXT)
    pages = -(-context // PAGE)
    return options.memory - PROCESS_BYTES - pages * PagePool(spec, 1).page_bytes


def require_possible(spec: ModelSpec, options: Options) -> None:
    """Raises QualityError where even one bit a weight takes more than the budget."""
    budget = budget_bytes(spec, options)
    least = whole_bytes(spec, options, {part.name: 1 for part in coded(spec)})
    if budget is None or least <= budget:
        return
    ratio = math.floor(400 * parameters(spec) / least) / 100
    bits = math.ceil(800 * least / parameters(spec)) / 100
    raise QualityError(
        f"No crystal of this model fits {format_bytes(max(budget, 0))}: with one bit a weight it "
        f"takes {format_bytes(least)}.",
        fix=f"Ask for --ratio {ratio:g} or less, --bits {bits:g} or more.",
    )


def plan_within(judge: Judge, options: Options, budget: int) -> dict[str, int]:
    """The best plan whose files, headers included, fit."""
    room = budget
    for _ in range(ROUNDS):
        bits = plan_for_bytes(judge, room)
        over = whole_bytes(judge.spec, options, bits) + SLACK - budget
        if over <= 0 or room <= 0:
            break
        room -= max(over, 64)
    return bits


def whole_bytes(spec: ModelSpec, options: Options, bits: Mapping[str, int]) -> int:
    """Bytes of the whole crystal of a plan."""
    stacks = {name: TOWERS[count] for name, count in bits.items()}
    planes = [(name, k) for name, stack in stacks.items() for k in range(1, len(stack))]
    size = max(1, -(-len(planes) // options.shards(parameters(spec))))
    cut = [planes[begin : begin + size] for begin in range(0, len(planes), size)]
    return prefix_bytes(spec, options.seed, stacks, cut)[-1]
