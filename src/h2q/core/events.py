"""What long work and token streams tell whoever listens: typed events, never strings to parse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of a named stage; the listener estimates the time left."""

    stage: str
    done: float
    total: float
    unit: str = ""


ProgressListener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """A listener that does nothing."""


PartKind = Literal["content", "reasoning", "tool_call"]


@dataclass(frozen=True)
class Part:
    """A piece of an answer: text for the reader, text the model wrote to itself, or a whole call
    (`text` holds its arguments, the text of a JSON object, `name` the function's name).
    """

    kind: PartKind
    text: str
    name: str = ""


@dataclass(frozen=True)
class Usage:
    """What an answer took. `cached`: tokens of the prompt that were found in the cache.

    Seconds: `queue` until the model began, `prompt` to read it (until the first token),
    `total` from the ask to the end. `stop`: the stop text that ended it, if one did.
    """

    prompt_tokens: int
    tokens: int
    cached: int = 0
    queue: float = 0.0
    prompt: float = 0.0
    total: float = 0.0
    stop: str = ""


@dataclass(frozen=True)
class Alternative:
    """A token that could have stood there: its id, text, and log-probability in nats."""

    token: int
    text: str
    logprob: float


@dataclass(frozen=True)
class TokenEvent:
    """One generated token, or the end of an answer (`finish` set, token -1, `usage` given).

    `text` is the piece that became printable with it (may be empty inside a UTF-8 character, and
    while it could still become a stop text); `parts` the same told apart, where that was asked for;
    `logprob` is in nats under the unmodified distribution; `planes` is the number of coded planes
    that took part; `seconds` counts from the request; `entropy`, nats, is of the unmodified
    distribution, `top` its likeliest (token, logprob) where they were asked for, `alternatives`
    the same with their texts. `piece` is the token's own text where alternatives were asked for.
    """

    token: int
    text: str
    logprob: float
    index: int
    planes: int
    seconds: float
    finish: str = ""
    entropy: float = 0.0
    top: tuple[tuple[int, float], ...] = ()
    parts: tuple[Part, ...] = ()
    piece: str = ""
    alternatives: tuple[Alternative, ...] = ()
    usage: Usage | None = None


@dataclass(frozen=True)
class StageEvent:
    """A step of a hot start: its name, seconds since the start began, bytes read by then."""

    stage: str
    seconds: float
    bytes: int
