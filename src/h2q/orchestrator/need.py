"""How much memory a model needs, before it is started."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from h2q.runtime.worker import Order

if TYPE_CHECKING:
    from h2q.core.specs import ModelSpec

PROCESS = 96 << 20  # of Python, its libraries, and what a step needs besides
STEP_ROWS = 512  # of activations at once, a generous number of them per layer's width
SCALES = 8  # float32 of a key and of a value, per head and position
SHARE = 4  # the cache takes at most the fourth part of the budget
FEW = 2048  # positions that a cache has even where that is more
STREAMS = 4  # contexts in full that the cache holds where it can
EASILY = 8  # up to this part of the cache's share it holds those of all streams


@dataclass(frozen=True)
class Need:
    """Bytes resident: `least` with the base planes and an empty cache, `most` with all planes and
    a full one.
    """

    least: int
    most: int


def plan(order: Order, budget: int) -> tuple[Order, Need]:
    """The order with the size of its cache chosen, and what it needs of a budget in bytes. Reads
    crystal.json alone. Raises CrystalError.
    """
    from h2q.crystal.manifest import read_manifest  # with all it needs, on the first load only

    manifest = read_manifest(Path(order.crystal))
    spec = manifest.spec
    each = position_bytes(spec)
    limit = spec.max_position_embeddings
    positions = order.context
    if positions is None:
        fit = max(budget // SHARE // each, min(limit, FEW))
        positions = max(min(limit * STREAMS, fit), min(limit * order.streams, fit // EASILY))
    groups = len(manifest.groups) if order.groups is None else order.groups
    shards = [file.bytes for file in manifest.files[: 1 + groups]]
    scratch = PROCESS + STEP_ROWS * 4 * (6 * spec.hidden_size + 3 * spec.intermediate_size)
    scratch += 4 * order.streams * spec.vocab_size
    need = Need(scratch + shards[0], scratch + sum(shards) + positions * each)
    return replace(order, context=positions), need


def position_bytes(spec: ModelSpec) -> int:
    """Keys and values of one position in all layers, at eight bits each."""
    heads, keys, values = spec.num_key_value_heads, spec.head_dim, spec.head_dim
    if spec.latent is not None:
        heads, keys, values = 1, spec.latent.row, spec.latent.kv_lora_rank
    return spec.num_hidden_layers * heads * (keys + values + SCALES)
