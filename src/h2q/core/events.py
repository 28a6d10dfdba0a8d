"""What long work and token streams tell whoever listens: typed events, never strings to parse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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


@dataclass(frozen=True)
class TokenEvent:
    """One generated token.

    `text` is the piece that became printable with it (may be empty inside a UTF-8 character);
    `logprob` is in nats under the unmodified distribution; `planes` is the number of coded planes
    that took part; `seconds` counts from the request; `entropy`, nats, is of the unmodified
    distribution, `top` its likeliest (token, logprob) where they were asked for.
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


@dataclass(frozen=True)
class StageEvent:
    """A step of a hot start: its name, seconds since the start began, bytes read by then."""

    stage: str
    seconds: float
    bytes: int
