"""What a config.json says about rotary positions, in the spellings of transformers 4 (`rope_theta`,
`rope_scaling`) and 5 (`rope_parameters`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from h2q.core.errors import SourceError
from h2q.core.rope import RopeScaling

COMMON = {"rope_type", "type", "rope_theta", "partial_rotary_factor", "finetuned"}
LENGTH = "original_max_position_embeddings"
# What each type reads besides; a key that is not here would change what it is ignored by.
READS = {
    "default": {"factor", LENGTH},
    "linear": {"factor", LENGTH},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", LENGTH},
    "yarn": {
        "factor",
        LENGTH,
        "beta_fast",
        "beta_slow",
        "truncate",
        "attention_factor",
        "mscale",
        "mscale_all_dim",
    },
    "longrope": {"factor", LENGTH, "short_factor", "long_factor", "attention_factor"},
}
PER_LAYER = {"full_attention", "sliding_attention"}
FIRST_LONGROPE = ("su", "yarn")  # what Phi-3 called it


@dataclass(frozen=True)
class Rope:
    """theta: base of the positions; scaling, or None; partial: share of a head that is turned;
    local: base of the sliding layers' own positions, 0 for none; context: the most positions that
    these frequencies serve, 0 where nothing bounds them.
    """

    theta: float
    scaling: RopeScaling | None = None
    partial: float = 1.0
    local: float = 0.0
    context: int = 0


def read_rope(config: Mapping[str, Any], theta: float, local: float, where: str) -> Rope:
    """theta, local: what the family uses where the config is silent. Raises SourceError, and
    SpecError on numbers out of bounds.
    """
    found = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(found, Mapping):
        raise SourceError("rope_scaling must be an object.", where=where)
    if local and set(found) & PER_LAYER:
        return _per_layer(config, found, theta, local, where)
    if local:
        local = config.get("rope_local_base_freq", local)
    return _rope(config, found, theta, local, where)


def _per_layer(
    config: Mapping[str, Any], found: Mapping[str, Any], theta: float, local: float, where: str
) -> Rope:
    tables = [found.get(kind) or {} for kind in ("full_attention", "sliding_attention")]
    if set(found) - PER_LAYER or not all(isinstance(table, Mapping) for table in tables):
        raise SourceError("rope_parameters must describe two kinds of layers.", where=where)
    sliding = _rope(config, tables[1], config.get("rope_local_base_freq", local), 0, where)
    if sliding.scaling is not None:
        raise _unsupported("scaled positions in sliding layers", where)
    return _rope(config, tables[0], theta, sliding.theta, where)


def _rope(
    config: Mapping[str, Any], table: Mapping[str, Any], theta: float, local: float, where: str
) -> Rope:
    base = table.get("rope_theta", config.get("rope_theta"))
    base = theta if base is None else base
    share = table.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    partial = 1.0 if share is None else share
    kind = table.get("rope_type", table.get("type")) or "default"
    if config.get("model_type") == "phi3" and kind in FIRST_LONGROPE:
        kind = "longrope"
    if not isinstance(kind, str) or kind not in READS:
        raise _unsupported("rope_scaling", where)
    if unknown := set(table) - READS[kind] - COMMON:
        raise _unsupported(f"rope_scaling {sorted(unknown)[0]!r}", where)
    if kind == "default":
        return Rope(base, None, partial, local)
    context = config.get("max_position_embeddings")
    length = config.get(LENGTH) or table.get(LENGTH) or context
    if kind == "longrope":
        return _longrope(table, base, partial, length, context, where)
    given = {
        name: table[name]
        for name in READS[kind] & RopeScaling.__dataclass_fields__.keys()
        if table.get(name) is not None
    }
    if kind == "linear":
        given = {"factor": table.get("factor")}
    else:
        given[LENGTH] = length
    if kind == "yarn" and "attention_factor" not in given:
        given["attention_factor"] = _attention_factor(table, where)
    return Rope(base, RopeScaling(kind, **given), partial, local)


def _attention_factor(table: Mapping[str, Any], where: str) -> float:
    """YaRN's, where the config does not name it (Peng et al. 2023, and DeepSeek's mscale)."""
    factor, above, below = (
        _number(table.get(name), where) for name in ("factor", "mscale", "mscale_all_dim")
    )
    if factor <= 1:
        return 1.0
    if above and below:
        return (0.1 * above * math.log(factor) + 1) / (0.1 * below * math.log(factor) + 1)
    return 0.1 * math.log(factor) + 1


def _longrope(
    table: Mapping[str, Any], base: float, partial: float, length: Any, context: Any, where: str
) -> Rope:
    """LongRoPE (Ding et al. 2024) has factors for texts up to the first context and others for all
    positions of longer ones. Keys that are kept cannot change theirs, so the first context bounds
    what this version runs.
    """
    first, most = _number(length, where), _number(context, where)
    short = table.get("short_factor")
    if not isinstance(short, list) or first < 2 or most < 1:
        raise SourceError("The longrope scaling lacks short_factor or a context.", where=where)
    factor = _number(table.get("factor"), where) or most / first
    scale = table.get("attention_factor")
    if scale is None:
        scale = math.sqrt(1 + math.log(factor) / math.log(first)) if factor > 1 else 1.0
    scaling = RopeScaling("factors", factors=tuple(short), attention_factor=scale)
    return Rope(base, scaling, partial, context=int(first))


def _number(value: object, where: str) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise SourceError("A number of rope_scaling is out of bounds.", where=where)
    return float(value)


def _unsupported(what: str, where: str) -> SourceError:
    return SourceError(f"The config asks for what this version cannot run: {what}.", where=where)
