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
from h2q.engine.scheduler import STEP_ROWS
from h2q.engine.scratch import LATER, expanded_bytes, scratch_bytes

MIB = 1 << 20
INTERPRETER = 48 << 20  # a process before its model is there: 46 MiB, measured
SERVED_CONTEXT = 4096
MAPPED = 64 << 10  # bytes by which whole pages of mapped shards are more
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
    return options.memory - beside_bytes(spec)


def beside_bytes(spec: ModelSpec) -> int:
    """What a process that serves a crystal has in memory beside its weights: a cache of
    SERVED_CONTEXT tokens, steps of as many rows as there may be, one of them heard.
    """
    context = min(spec.max_position_embeddings, SERVED_CONTEXT)
    cache = -(-context // PAGE) * PagePool(spec, 1).page_bytes
    process = INTERPRETER + LATER + scratch_bytes(spec, STEP_ROWS, 1) + expanded_bytes(spec)
    return process + cache + MAPPED


def require_possible(spec: ModelSpec, options: Options) -> None:
    """Raises QualityError where even one bit a weight takes more than the budget."""
    budget = budget_bytes(spec, options)
    least = whole_bytes(spec, options, {part.name: 1 for part in coded(spec)})
    if budget is None or least <= budget:
        return
    ratio = math.floor(400 * parameters(spec) / least) / 100
    bits = math.ceil(800 * least / parameters(spec)) / 100
    takes = f"with one bit a weight it takes {format_bytes(least)}"
    if options.memory is not None:
        beside = beside_bytes(spec)
        whole = -(-(least + beside) // MIB)
        raise QualityError(
            f"No crystal of this model talks in {format_bytes(options.memory)}: {takes}, process "
            f"and cache {format_bytes(beside)}.",
            fix=f"Ask for --memory {whole}MiB or more.",
        )
    raise QualityError(
        f"No crystal of this model fits {format_bytes(budget)}: {takes}.",
        fix=f"Ask for --ratio {ratio:g} or less, --bits {bits:g} or more, --size {least} or more.",
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
