"""A Hugging Face config.json as a ModelSpec. What this version cannot run is refused, never
ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from h2q.core.bounds import require_integer
from h2q.core.errors import SourceError, SpecError
from h2q.core.specs import MAX_WIDTH, ModelSpec
from h2q.sources.hf_families import FAMILIES
from h2q.sources.hf_family import Family, activation, refuse_unknown
from h2q.sources.hf_rope import read_rope

SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)


def model_spec(config: Mapping[str, Any], stops: object, where: str) -> ModelSpec:
    """`stops`: eos_token_id of generation_config.json, or None. Raises SourceError."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise SourceError(
            f"The architecture {kind!r} is not known to this version.",
            where=where,
            fix=f"Supported: {', '.join(sorted(FAMILIES))}.",
        )
    family = FAMILIES[kind]
    refuse_unknown(config, family, where)
    if missing := [name for name in SIZES if name not in config]:
        raise SourceError(f"The config lacks {', '.join(missing)}.", where=where)
    config = {**(family.defaults or {}), **config}
    try:
        config = family.prepare(config) if family.prepare else config
        return _spec(config, family, stops, where)
    except SpecError as error:
        raise SourceError(error.what, where=where, fix="The config contradicts itself.") from error
    except SourceError as error:
        raise error.at(where) from error


def _spec(config: Mapping[str, Any], family: Family, stops: object, where: str) -> ModelSpec:
    rope = read_rope(config, family.theta, family.local, where)
    head_dim = _head_dim(config, where)
    context = config.get("max_position_embeddings", 2048)
    shared = config.get("num_key_value_heads") or config["num_attention_heads"]
    return ModelSpec(
        family=family.name,
        **{name: config[name] for name in SIZES},
        num_key_value_heads=shared,
        head_dim=head_dim,
        max_position_embeddings=min(context, rope.context) if rope.context else context,
        rms_norm_eps=config.get("rms_norm_eps", 1e-6),
        rope_theta=rope.theta,
        tie_word_embeddings=config.get("tie_word_embeddings", False),
        bos_token_id=config.get("bos_token_id"),
        eos_token_ids=_ids(config.get("eos_token_id"), stops),
        rope_scaling=rope.scaling,
        rotary_dim=_rotary_dim(rope.partial, head_dim, where),
        rope_local_base_freq=rope.local,
        hidden_act=activation(config, family),
        **family.read(config),
    )


def _head_dim(config: Mapping[str, Any], where: str) -> Any:
    heads, width, head_dim = (
        config.get(name) for name in ("num_attention_heads", "hidden_size", "head_dim")
    )
    if head_dim is not None:
        return head_dim
    sound = isinstance(heads, int) and isinstance(width, int) and heads > 0
    if not sound or width % heads:  # type: ignore[operator]
        raise SourceError(f"Width {width!r} does not split into {heads!r} heads.", where=where)
    return width // heads  # type: ignore[operator]


def _rotary_dim(share: object, head_dim: Any, where: str) -> int:
    """Dimensions that are turned; 0 for all."""
    sound = isinstance(share, (int, float)) and not isinstance(share, bool) and 0 < share <= 1
    if not sound:
        raise SourceError("partial_rotary_factor must be above 0 and at most 1.", where=where)
    require_integer("head_dim", head_dim, 1, MAX_WIDTH)  # before it meets a float
    turned = int(head_dim * share)
    return 0 if turned == head_dim else turned


def _ids(*values: object) -> tuple[int, ...]:
    """Token ids from numbers and lists, in order, once each; ModelSpec judges them."""
    out: list[Any] = []
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            if item is not None and item not in out:
                out.append(item)
    return tuple(out)
