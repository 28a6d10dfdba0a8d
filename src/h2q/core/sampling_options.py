"""What a person may ask of sampling, each option with its range. Names as Ollama and OpenAI use
them.

The defaults leave the model's own distribution as it is; a dialect has defaults of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from h2q.core.errors import UsageError, shown

MAX_TEMPERATURE = 100.0
MAX_COUNT = 1 << 31  # of tokens, for options that count them
MAX_SEED = (1 << 64) - 1
MAX_WINDOW = 1 << 20  # tokens that penalties look back on
MAX_PENALTY = 10.0
MAX_BIAS = 100.0  # as OpenAI has it
MAX_BIASES = 1024
MAX_TOP_LOGPROBS = 20  # as Ollama and OpenAI have it
MAX_STOPS = 64
MAX_STOP_BYTES = 4096


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is chosen and when a text ends. Raises UsageError naming the option and
    its range when a value is of another type, not a number, or outside it.

    temperature: 0 is greedy (the lowest id wins a tie).
    top_k: keep the k most likely tokens and ties of the last; 0: all.
    top_p: keep the fewest tokens that together have this share (Holtzman et al. 2020); 1: all.
    min_p: keep tokens at least this many times as likely as the likeliest; 0: all.
    typical_p: keep the tokens nearest to the expected surprise that together have this share
        (Meister et al. 2023); 1: all.
    repeat_penalty: divides positive and multiplies negative logits of seen tokens (Keskar et al.
        2019); 1: off.
    presence_penalty, frequency_penalty: taken from the logits of seen tokens, once and per
        occurrence; 0: off.
    repeat_last_n: how many of the last tokens are seen, prompt included; 0: none, -1: all.
    seed: repeats a text; None or -1 draws one.
    stop: texts that end the output; max_tokens: of the output, None: until the context is full.
    logit_bias: added to logits by token id.
    top_logprobs: how many alternatives to report with each token.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 64
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        _number("temperature", self.temperature, 0, MAX_TEMPERATURE)
        _count("top_k", self.top_k, 0, MAX_COUNT)
        _share("top_p", self.top_p)
        _number("min_p", self.min_p, 0, 1)
        _share("typical_p", self.typical_p)
        _number("repeat_penalty", self.repeat_penalty, 1 / MAX_PENALTY, MAX_PENALTY)
        _number("presence_penalty", self.presence_penalty, -MAX_PENALTY, MAX_PENALTY)
        _number("frequency_penalty", self.frequency_penalty, -MAX_PENALTY, MAX_PENALTY)
        _count("repeat_last_n", self.repeat_last_n, -1, MAX_WINDOW)
        if self.seed is not None:
            _count("seed", self.seed, -1, MAX_SEED)
        if self.max_tokens is not None:
            _count("max_tokens", self.max_tokens, 0, MAX_COUNT)
        _count("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS)
        object.__setattr__(self, "stop", _stops(self.stop))
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))

    @property
    def penalizes(self) -> bool:
        """Whether seen tokens change anything."""
        off = (self.repeat_penalty, self.presence_penalty, self.frequency_penalty) == (1, 0, 0)
        return not off and self.repeat_last_n != 0


def _refused(name: str, wanted: str, value: object) -> UsageError:
    return UsageError(f"{name} must be {wanted}, not {shown(repr(value))}.", where=name)


def _number(name: str, value: object, low: float, high: float) -> None:
    sound = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not sound or not low <= value <= high:  # type: ignore[operator]  # NaN is in no range
        raise _refused(name, f"from {low:g} to {high:g}", value)


def _share(name: str, value: object) -> None:
    sound = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not sound or not 0 < value <= 1:  # type: ignore[operator]
        raise _refused(name, "above 0 and at most 1", value)


def _count(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _refused(name, f"a whole number from {low} to {high}", value)


def _stops(stop: object) -> tuple[str, ...]:
    texts = (stop,) if isinstance(stop, str) else stop
    wanted = f"at most {MAX_STOPS} texts of 1 to {MAX_STOP_BYTES} bytes"
    if not isinstance(texts, Iterable):
        raise _refused("stop", wanted, stop)
    found = tuple(texts)
    sound = len(found) <= MAX_STOPS and all(
        isinstance(text, str) and 0 < len(text.encode("utf-8", "replace")) <= MAX_STOP_BYTES
        for text in found
    )
    if not sound:
        raise _refused("stop", wanted, stop)
    return found


def _biases(bias: object) -> tuple[tuple[int, float], ...]:
    rows = bias.items() if isinstance(bias, Mapping) else bias
    wanted = (
        f"at most {MAX_BIASES} token ids, each once, with a number from {-MAX_BIAS:g} to "
        f"{MAX_BIAS:g}"
    )
    try:
        found = tuple(sorted((token, float(value)) for token, value in rows))  # type: ignore[attr-defined]
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise _refused("logit_bias", wanted, bias) from None
    sound = (
        len(found) <= MAX_BIASES
        and len(dict(found)) == len(found)
        and all(
            isinstance(token, int)
            and not isinstance(token, bool)
            and 0 <= token < MAX_COUNT
            and math.isfinite(value)
            and abs(value) <= MAX_BIAS
            for token, value in found
        )
    )
    if not sound:
        raise _refused("logit_bias", wanted, bias)
    return found
