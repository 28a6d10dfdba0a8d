"""Hyper-parameters of a GGUF file as a ModelSpec. What this version cannot run is refused, never
ignored.
"""

from __future__ import annotations

from collections.abc import Container

from h2q.core.errors import SourceError, SpecError, shown
from h2q.core.specs import ModelSpec
from h2q.sources.gguf_families import FAMILIES, Family, Tables, biases, family_of, scaling
from h2q.sources.gguf_keys import Keys, shortest
from h2q.sources.gguf_metadata import Metadata
from h2q.sources.gguf_names import OUTPUT
from h2q.sources.gguf_vocabulary import Vocabulary

DEFAULT_THETA = 10_000.0
# Keys that change the network when they hold anything else than these values.
NEUTRAL: dict[str, tuple[float, ...]] = {
    "expert_count": (0,),
    "attention.sliding_window": (0,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.scale": (0,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "logit_scale": (0, 1),
    "residual_scale": (0, 1),
    "embedding_scale": (0, 1),
    "rope.freq_base_swa": (0,),
    "attention.sliding_window_pattern": (0,),
    "rope.scaling.yarn_log_multiplier": (0,),
}


def model_spec(
    metadata: Metadata, vocabulary: Vocabulary, names: Container[str], tables: Tables
) -> ModelSpec:
    """names: of the tensors that the file holds; tables: the numbers of those that scale rotary
    frequencies. Raises SourceError.
    """
    kind = metadata.text("general.architecture") or ""
    keys = Keys(metadata, kind, names)
    family = family_of(keys)
    if family is None:
        raise SourceError(
            f"The architecture {shown(kind)} is not known to this version.",
            where=metadata.where,
            fix=f"Supported: {', '.join(sorted(FAMILIES))}.",
        )
    _refuse_unsupported(metadata, kind, family)
    head_dim, rotary_dim = (2, 0) if family.latent else _heads(keys)
    shared = metadata.integer(f"{kind}.attention.head_count_kv")
    rows = metadata.integer(f"{kind}.vocab_size")
    epsilon = metadata.number(f"{kind}.attention.layer_norm_rms_epsilon")
    theta = metadata.number(f"{kind}.rope.freq_base")
    if epsilon is None:
        raise SourceError(
            f"The metadata lack {kind}.attention.layer_norm_rms_epsilon.", where=metadata.where
        )
    try:
        read = family.read(keys)
        scaled, most = scaling(keys, tables)
        context, heads = keys.needed("context_length"), keys.needed("attention.head_count")
        spelled = {
            "family": family.name,
            "vocab_size": len(vocabulary.tokens) if rows is None else rows,
            "hidden_size": keys.needed("embedding_length"),
            "intermediate_size": keys.needed("feed_forward_length"),
            "num_hidden_layers": keys.needed("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": heads if shared is None else shared,
            "head_dim": head_dim,
            "max_position_embeddings": min(context, most) if most else context,
            "rms_norm_eps": shortest(epsilon),
            "rope_theta": DEFAULT_THETA if theta is None else shortest(theta),
            "tie_word_embeddings": OUTPUT not in names,
            "bos_token_id": vocabulary.bos,
            "eos_token_ids": vocabulary.stops,
            "rope_scaling": family.rope(scaled),
            "rotary_dim": rotary_dim,
        }
        return ModelSpec(**{**spelled, **biases(names), **read})
    except SpecError as error:
        raise SourceError(
            error.what, where=metadata.where, fix="The metadata contradict themselves."
        ) from error


def _heads(keys: Keys) -> tuple[int, int]:
    """Width of a head, and how much of it is turned, 0 for all."""
    width, heads = keys.needed("embedding_length"), keys.needed("attention.head_count")
    head_dim = keys.integer("attention.key_length")
    if not head_dim:
        if heads <= 0 or width % heads:
            raise SourceError(
                f"A width of {width} does not split into {heads} heads.", where=keys.metadata.where
            )
        head_dim = width // heads
    turned = keys.integer("rope.dimension_count", head_dim)
    partial = keys.kind == "phi3" and turned != head_dim
    for name in ("attention.value_length", *(() if partial else ("rope.dimension_count",))):
        if keys.integer(name, head_dim) != head_dim:
            raise SourceError(
                f"The {name} differs from the width of a head, {head_dim}.",
                where=keys.metadata.where,
                fix="This version runs heads of one width, turned as a whole.",
            )
    return head_dim, turned if partial else 0


def _refuse_unsupported(metadata: Metadata, kind: str, family: Family) -> None:
    bad = [
        name
        for name, neutral in NEUTRAL.items()
        if name not in family.reads
        and (value := metadata.number(f"{kind}.{name}")) is not None
        and value not in neutral
    ]
    if metadata.flag(f"{kind}.attention.causal") is False:
        bad.append("attention.causal")
    if bad:
        raise SourceError(
            f"The metadata ask for what this version cannot run: {', '.join(bad)}.",
            where=metadata.where,
        )
