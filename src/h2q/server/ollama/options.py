"""The `options` of a request over those of its model over Ollama's defaults."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from h2q.core.cards import ModelCard
from h2q.core.errors import UsageError
from h2q.core.sampling_options import MAX_COUNT, MAX_SEED, MAX_STOPS, SamplingOptions
from h2q.server.refusal import Refusal

DEFAULTS: dict[str, Any] = {
    "num_ctx": 0,
    "num_keep": 4,
    "seed": -1,
    "num_predict": -1,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "temperature": 0.8,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "stop": [],
}
# Of other engines: their types are checked, and that is all.
PASSED_OVER: dict[str, Any] = {
    "num_batch": 0,
    "num_gpu": 0,
    "main_gpu": 0,
    "num_thread": 0,
    "draft_num_predict": 0,
    "use_mmap": False,
}
LEAST_CONTEXT = 4
ALMOST_NOTHING = 1e-6  # a share of 0 keeps the likeliest token alone


@dataclass(frozen=True)
class Chosen:
    """Options as an ask takes them."""

    sampling: SamplingOptions
    context: int | None
    keep: int


def choose(card: ModelCard, given: Mapping[str, Any], top_logprobs: int) -> Chosen:
    """Raises Refusal: 500 for a value of another type, as Ollama does, 400 for one out of range.
    Unknown names and those that only matter to other engines are passed over.
    """
    values = dict(DEFAULTS)
    for name, value in (*card.options, *given.items()):
        if name in _KNOWN and value is not None:
            values[name] = _typed(name, value)
    predict, context = values["num_predict"], values["num_ctx"]
    try:
        sampling = SamplingOptions(
            temperature=values["temperature"],
            top_k=min(max(values["top_k"], 0), MAX_COUNT),
            top_p=_share(values["top_p"]),
            min_p=values["min_p"],
            typical_p=_share(values["typical_p"]),
            repeat_penalty=values["repeat_penalty"],
            presence_penalty=values["presence_penalty"],
            frequency_penalty=values["frequency_penalty"],
            repeat_last_n=values["repeat_last_n"],
            seed=None if values["seed"] == -1 else values["seed"] & MAX_SEED,
            stop=tuple(values["stop"]),
            max_tokens=min(predict, MAX_COUNT) if predict > 0 else None,
            top_logprobs=top_logprobs,
        )
    except UsageError as error:
        raise Refusal(400, error.what, param=f"options.{error.where}") from None
    most = min(max(context, LEAST_CONTEXT), card.context_length) if context > 0 else None
    return Chosen(sampling, most, min(max(values["num_keep"], 0), MAX_COUNT))


def _share(value: float) -> float:
    return 1.0 if value > 1 else max(value, ALMOST_NOTHING) if value >= 0 else value


def _typed(name: str, value: Any) -> Any:
    kind, convert = _KINDS[type(_KNOWN[name])]
    try:
        return convert(value)
    except (TypeError, ValueError, OverflowError):
        raise Refusal(500, f'option "{name}" must be of type {kind}', param=name) from None


def _integer(value: Any) -> int:
    number = _number(value)
    return int(number) if math.isfinite(number) else int(math.copysign(MAX_COUNT, number))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _texts(value: Any) -> list[str]:
    """A request has a list, a model's own options a tuple."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) for text in value):
        raise TypeError
    return [text for text in value if text][: MAX_STOPS + 1]


_KNOWN = {**DEFAULTS, **PASSED_OVER}
_KINDS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    int: ("integer", _integer),
    float: ("float32", lambda value: float(_number(value))),
    list: ("array", _texts),
    bool: ("boolean", _flag),
}
