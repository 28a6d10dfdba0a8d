"""The families that are llamas at heart: what sets each apart, as its config.json spells it and
with the defaults of its configuration class in transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from h2q.core.errors import SourceError
from h2q.core.specs import FULL, SLIDING
from h2q.sources.hf_experts import (
    COUNTS,
    counted,
    deepseek,
    expanded,
    gpt_oss,
    mixtral,
    qwen2_moe,
    qwen3_moe,
    stretched_by_default,
)
from h2q.sources.hf_family import Config, Family, Fields


def _llama(config: Config) -> Fields:
    biased = config.get("attention_bias", False)
    return {"qkv_bias": biased, "o_bias": biased, "mlp_bias": config.get("mlp_bias", False)}


def _mistral(config: Config) -> Fields:
    return {"sliding_window": config.get("sliding_window", 4096) or 0}


def _windows(config: Config, slides: Callable[[int], bool]) -> Fields:
    """sliding_window and layer_types; slides: which layers do, where the config does not say."""
    window, count = config.get("sliding_window") or 0, config["num_hidden_layers"]
    kinds = config.get("layer_types")
    if not isinstance(count, int) or not 0 < count <= 1 << 12:
        return {}  # ModelSpec says what is wrong with it
    if kinds is None:
        kinds = [SLIDING if slides(index) else FULL for index in range(count)]
    if kinds == [FULL] * count:
        return {}
    listed = tuple(kinds) if isinstance(kinds, list) else kinds
    return {"sliding_window": window, "layer_types": listed}


def _qwen(config: Config) -> Fields:
    if not config.get("use_sliding_window"):
        config = {**config, "sliding_window": 0}
    first, window = config.get("max_window_layers", 28), config.get("sliding_window", 4096)
    if not isinstance(first, int):
        raise SourceError("max_window_layers must be a whole number.")
    config = {**config, "sliding_window": window}
    return _windows(config, lambda index: bool(window) and index >= first)


def _qwen2(config: Config) -> Fields:
    return {**_qwen(config), "qkv_bias": True}


def _qwen3(config: Config) -> Fields:
    return {**_llama(config), **_qwen(config), "qk_norm": True}


def _gemma(config: Config) -> Fields:
    scalar, width = config.get("query_pre_attn_scalar", 256), config["hidden_size"]
    for value in (scalar, width):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
            raise SourceError("query_pre_attn_scalar or hidden_size is out of bounds.")
    return {
        "qkv_bias": config.get("attention_bias", False),
        "o_bias": config.get("attention_bias", False),
        "post_norms": True,
        "attention_multiplier": scalar**-0.5,
        "embedding_multiplier": math.sqrt(width),
        "attn_logit_softcapping": config.get("attn_logit_softcapping") or 0.0,
        "final_logit_softcapping": config.get("final_logit_softcapping") or 0.0,
    }


def _gemma2(config: Config) -> Fields:
    caps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    config = {"sliding_window": 4096, **caps, **config}
    return {**_gemma(config), **_windows(config, lambda index: index % 2 == 0)}


def _gemma3(config: Config) -> Fields:
    step = config.get("sliding_window_pattern", config.get("_sliding_window_pattern", 6))
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise SourceError("sliding_window_pattern must be a whole number from 1.")
    config = {"sliding_window": 4096, **config}
    slides = _windows(config, lambda index: (index + 1) % step != 0)
    return {**_gemma(config), **slides, "qk_norm": True}


def _phi3(config: Config) -> Fields:
    return {"sliding_window": config.get("sliding_window") or 0}


def _granite(config: Config) -> Fields:
    names = ("embedding_multiplier", "residual_multiplier", "logits_scaling")
    multipliers = {name: config.get(name, 1.0) for name in (*names, "attention_multiplier")}
    return {**_llama(config), **multipliers}


def _smollm3(config: Config) -> Fields:
    layers, step = config.get("no_rope_layers"), config.get("no_rope_layer_interval", 4)
    count = config["num_hidden_layers"]
    if (
        not isinstance(count, int)
        or not isinstance(step, int)
        or not 0 < count <= 1 << 12
        or not step
    ):
        raise SourceError("num_hidden_layers or no_rope_layer_interval is out of bounds.")
    if layers is None:
        layers = [int((index + 1) % step != 0) for index in range(count)]
    if not isinstance(layers, list) or len(layers) < count:
        raise SourceError("no_rope_layers must say of every layer whether it has positions.")
    bare = tuple(index for index in range(count) if not layers[index])
    slides = bool(config.get("use_sliding_window") and config.get("sliding_window"))
    windows = _windows(config, lambda index: slides and index in bare)
    return {**_llama(config), **windows, "no_rope_layers": bare}


def _mixtral(config: Config) -> Fields:
    return {"sliding_window": config.get("sliding_window") or 0, "experts": mixtral(config)}


def _gpt_oss(config: Config) -> Fields:
    return {**_windows(config, lambda index: index % 2 == 0), **gpt_oss(config)}


def _qwen2_moe(config: Config) -> Fields:
    return {**_qwen2(config), "experts": qwen2_moe(config)}


def _qwen3_moe(config: Config) -> Fields:
    return {**_qwen3(config), "mlp_bias": False, "experts": qwen3_moe(config)}


BIASES = ("attention_bias", "mlp_bias")
GEMMA = (
    "attention_bias",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "query_pre_attn_scalar",
    "sliding_window",
)
MULTIPLIERS = (
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "attention_multiplier",
)
TIED = {"tie_word_embeddings": True, "head_dim": 256}
FAMILIES = {
    "llama": Family("llama", _llama, BIASES),
    "mistral": Family(
        "mistral", _mistral, ("sliding_window",), {"max_position_embeddings": 131_072}
    ),
    "qwen2": Family("qwen2", _qwen2, ("sliding_window",), {"max_position_embeddings": 32_768}),
    "qwen3": Family(
        "qwen3",
        _qwen3,
        ("sliding_window", "attention_bias"),
        {"max_position_embeddings": 32_768, "head_dim": 128},
    ),
    "gemma2": Family("gemma2", _gemma2, GEMMA, {**TIED, "max_position_embeddings": 8192}),
    "gemma3_text": Family(
        "gemma3",
        _gemma3,
        (*GEMMA, "rope_local_base_freq"),
        {**TIED, "max_position_embeddings": 131_072},
        theta=1e6,
        local=10_000.0,
    ),
    "phi3": Family(
        "phi3",
        _phi3,
        ("sliding_window", "partial_rotary_factor"),
        {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
    ),
    "granite": Family("granite", _granite, (*BIASES, *MULTIPLIERS)),
    "mixtral": Family("mixtral", _mixtral, (*COUNTS, "sliding_window"), theta=1e6),
    "qwen2_moe": Family(
        "qwen2_moe",
        _qwen2_moe,
        (*COUNTS, "sliding_window"),
        {"max_position_embeddings": 32_768},
    ),
    "qwen3_moe": Family(
        "qwen3_moe",
        _qwen3_moe,
        (*COUNTS, "sliding_window", "attention_bias"),
        {"max_position_embeddings": 32_768},
        prepare=counted,
    ),
    "gpt_oss": Family(
        "gpt_oss",
        _gpt_oss,
        (*COUNTS, "sliding_window", "attention_bias"),
        {"max_position_embeddings": 131_072, "sliding_window": 128, "head_dim": 64},
        theta=150_000.0,
        prepare=stretched_by_default,
    ),
    "deepseek_v2": Family("deepseek_v2", deepseek, COUNTS, prepare=expanded),
    "deepseek_v3": Family("deepseek_v3", deepseek, COUNTS, prepare=expanded),
    "smollm3": Family(
        "smollm3",
        _smollm3,
        (*BIASES, "sliding_window", "no_rope_layers"),
        {"tie_word_embeddings": True, "max_position_embeddings": 32_768},
        theta=2e6,
    ),
}
