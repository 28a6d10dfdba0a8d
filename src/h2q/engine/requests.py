"""What a stream is asked for, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from h2q.core.errors import H2QError
from h2q.engine.sampling import Distribution, Likelihood, Sampler

Finish = Literal["", "stop", "length", "context", "error"]


class Held(Protocol):
    """What holds an answer to a form (engine.constraint, which loads llguidance, makes them)."""

    @property
    def finished(self) -> bool:
        """Whether nothing but an end may follow."""
        ...

    def allowed(self) -> npt.NDArray[np.bool_] | None:
        """Which tokens may come next: bool (vocab_size,); None: any."""
        ...

    def accept(self, token: int) -> None:
        """The token that was written."""
        ...


@dataclass(frozen=True)
class Request:
    """A prompt and how to go on. `keep`: pages of a ring (engine.stream), 0 to keep everything.
    `stop`: tokens that end without being said. `constraint`: the form the answer is held to; it
    ends where nothing may follow.
    """

    prompt: tuple[int, ...]
    sampler: Sampler
    max_tokens: int
    stop: frozenset[int] = frozenset()
    keep: int = 0
    constraint: Held | None = None


@dataclass(frozen=True)
class Said:
    """A token of a stream, or its end: then `finish` is set, `token` is -1 and `likelihood` None.
    index: of the token in the answer. prefix: tokens of the prompt that were found in the cache.
    error: why a stream that ended by "error" could not go on.
    """

    stream: int
    token: int
    index: int
    likelihood: Likelihood | None
    finish: Finish = ""
    prefix: int = 0
    error: H2QError | None = None


def choose(request: Request, logits: npt.NDArray[np.float32]) -> tuple[int, Likelihood] | None:
    """The next token of a stream and how likely it was; None where it ends. logits: float32
    (vocab_size,). Raises what sampler and constraint raise."""
    form, sampler = request.constraint, request.sampler
    if form is not None and form.finished:
        return None
    count = sampler.options.top_logprobs
    found = Distribution(logits, count)
    token = sampler.pick(found, None if form is None else form.allowed())
    if token in request.stop:
        return None
    sampler.accept(token)
    if form is not None:
        form.accept(token)
    return token, found.of(token, count)
