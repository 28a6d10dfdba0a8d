"""What sets a family apart in GGUF metadata, as llama.cpp reads them: its keys, its defaults, and
what it decides by the model's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from h2q.core.errors import SourceError
from h2q.core.rope import RopeScaling
from h2q.core.specs import FULL, SLIDING
from h2q.sources.gguf_keys import Fields, Keys
from h2q.sources.gguf_mixtures import (
    COUNT,
    STRETCH,
    deepseek,
    gpt_oss,
    mixtral,
    qwen2_moe,
    qwen3_moe,
    unturned,
    whole_ramp,
)

Tables = Mapping[str, tuple[float, ...]]  # small tensors of numbers, by name
ROPE_FACTORS, SHORT_FACTORS, LONG_FACTORS = (
    "rope_freqs.weight",
    "rope_factors_short.weight",
    "rope_factors_long.weight",
)
MOST_LAYERS = 1 << 12


@dataclass(frozen=True)
class Family:
    """name: in ModelSpec. read: fields of a ModelSpec. reads: the keys that would otherwise have to
    be neutral. rope: what it makes of the scaling that files spell. latent: `read` knows the heads.
    """

    name: str
    read: Callable[[Keys], Fields]
    reads: tuple[str, ...] = ()
    rope: Callable[[RopeScaling | None], RopeScaling | None] = lambda scaling: scaling
    latent: bool = False


def biases(names: Container[str]) -> Fields:
    """Which biases the file holds."""
    found = {"qkv_bias": "attn_q", "o_bias": "attn_output", "mlp_bias": "ffn_down"}
    return {field: f"blk.0.{name}.bias" in names for field, name in found.items()}


def scaling(keys: Keys, tables: Tables) -> tuple[RopeScaling | None, int]:
    """How rotary frequencies are scaled, and the most positions that this serves, 0 for any. Raises
    SourceError on a kind this version cannot run, SpecError on numbers out of bounds.
    """
    kind = keys.metadata.text(f"{keys.kind}.rope.scaling.type") or "none"
    factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear"))
    attention = keys.number("rope.scaling.attn_factor", 1.0)
    length = keys.integer("rope.scaling.original_context_length")
    if SHORT_FACTORS in tables:
        return RopeScaling(
            "factors", factors=tables[SHORT_FACTORS], attention_factor=attention
        ), length
    if ROPE_FACTORS in tables:
        if kind not in ("none", "linear") or factor not in (0, 1) or attention != 1:
            raise _unsupported("rope.scaling besides factors", keys)
        return RopeScaling("factors", factors=tables[ROPE_FACTORS]), 0
    if kind == "yarn":
        return RopeScaling(
            "yarn",
            factor=factor,
            original_max_position_embeddings=length,
            beta_fast=keys.number("rope.scaling.yarn_beta_fast", 32.0),
            beta_slow=keys.number("rope.scaling.yarn_beta_slow", 1.0),
            attention_factor=attention * (0.1 * math.log(factor) + 1 if factor > 1 else 1.0),
        ), 0
    if kind not in ("none", "linear") or attention != 1:
        raise _unsupported("rope.scaling", keys)
    if kind == "none" or factor in (0, 1):
        return None, 0
    return RopeScaling("linear", factor=factor), 0


def _unsupported(what: str, keys: Keys) -> SourceError:
    return SourceError(
        f"The metadata ask for what this version cannot run: {what}.", where=keys.metadata.where
    )


def _llama(keys: Keys) -> Fields:
    return {}


def _qwen3(keys: Keys) -> Fields:
    return {"qk_norm": True}


def _phi3(keys: Keys) -> Fields:
    return {"sliding_window": keys.integer("attention.sliding_window")}


def _granite(keys: Keys) -> Fields:
    return {
        "logits_scaling": keys.number("logit_scale", 1.0),
        "residual_multiplier": keys.number("residual_scale", 1.0),
        "embedding_multiplier": keys.number("embedding_scale", 1.0),
        "attention_multiplier": keys.number("attention.scale"),
    }


def _smollm3(keys: Keys) -> Fields:
    layers = range(min(keys.integer("block_count"), MOST_LAYERS))
    return {"no_rope_layers": tuple(index for index in layers if index % 4 == 3)}


def _gemma(keys: Keys, step: int, window: int, largest: int) -> Fields:
    """step: every how manieth layer sees all; largest: layers of the one size whose scores are
    scaled by another width than that of a head.
    """
    layers, width = keys.integer("block_count"), keys.integer("embedding_length")
    heads = keys.integer("attention.head_count")
    if not 0 < layers <= MOST_LAYERS or not 0 < heads <= width:
        raise SourceError("A size in the metadata is out of bounds.", where=keys.metadata.where)
    head = width // heads
    if layers != largest:
        head = keys.integer("attention.key_length", head)
    if head < 1:
        raise SourceError("The width of a head is out of bounds.", where=keys.metadata.where)
    window = keys.integer("attention.sliding_window", window)
    kinds = tuple(FULL if index % step == step - 1 else SLIDING for index in range(layers))
    return {
        "post_norms": True,
        "hidden_act": "gelu_pytorch_tanh",
        "embedding_multiplier": math.sqrt(width),
        "attention_multiplier": head**-0.5,
        "sliding_window": window if SLIDING in kinds else 0,
        "layer_types": kinds if window else (),
        "final_logit_softcapping": keys.number("final_logit_softcapping"),
    }


def _gemma2(keys: Keys) -> Fields:
    return {
        **_gemma(keys, step=2, window=4096, largest=46),
        "attn_logit_softcapping": keys.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": keys.number("final_logit_softcapping", 30.0),
    }


def _gemma3(keys: Keys) -> Fields:
    fields = _gemma(keys, step=6, window=0, largest=62)
    local = keys.number("rope.freq_base_swa", 10_000.0) if fields["layer_types"] else 0.0
    return {**fields, "qk_norm": True, "rope_local_base_freq": local}


CAPS = ("attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping")
SCALES = ("logit_scale", "residual_scale", "embedding_scale", "attention.scale")
FAMILIES = {
    "llama": Family("llama", _llama),
    "qwen2": Family("qwen2", _llama),
    "qwen3": Family("qwen3", _qwen3),
    "gemma2": Family("gemma2", _gemma2, CAPS),
    "gemma3": Family("gemma3", _gemma3, (*CAPS, "rope.freq_base_swa")),
    "phi3": Family("phi3", _phi3, ("attention.sliding_window",)),
    "granite": Family("granite", _granite, SCALES),
    "smollm3": Family("smollm3", _smollm3),
    "qwen2moe": Family("qwen2_moe", qwen2_moe, (COUNT,)),
    "qwen3moe": Family("qwen3_moe", qwen3_moe, (COUNT,)),
    "gpt-oss": Family("gpt_oss", gpt_oss, (COUNT, "attention.sliding_window"), whole_ramp),
    "deepseek2": Family("deepseek_v2", deepseek, (COUNT, STRETCH), unturned, latent=True),
}
WITH_EXPERTS = {"llama": Family("mixtral", mixtral, (COUNT,))}  # where a file has some


def family_of(keys: Keys) -> Family | None:
    """That of an architecture, None where it is not known."""
    found = FAMILIES.get(keys.kind)
    return WITH_EXPERTS.get(keys.kind, found) if keys.integer(COUNT) else found


TABLES = (ROPE_FACTORS, SHORT_FACTORS, LONG_FACTORS)
MOST_FACTORS = 1 << 16
