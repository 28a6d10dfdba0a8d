"""Drafts: a cheap model guesses the next tokens, the full one then hears them all in one step.

The cheap model is the same crystal with fewer planes. It reads the stream's own pages and leaves
its keys where the full model writes its own over them. Every token that is said is chosen from the
full model's logits by the stream's own sampler, with the draw it would have had without drafts; a
draft is a guess of that choice, drawn by a copy of the sampler from the same draws. So the text is
the same with and without drafts. (Leviathan et al. 2023, with draws shared instead of redrawn.)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

from h2q.core.errors import UsageError
from h2q.engine.model import Model
from h2q.engine.page_pool import PagePool
from h2q.engine.rows import Rows, Span
from h2q.engine.sampling import Distribution, Sampler
from h2q.engine.stream import Stream

MOST_AHEAD = 16


@dataclass(frozen=True)
class Guess:
    """A stream that may be drafted `most` tokens ahead."""

    stream: Stream
    sampler: Sampler
    most: int


class Drafter:
    """`model` guesses at most `ahead` tokens, and goes on only while its guesses are at least
    `least` likely to itself. `rows` counts what it ran.
    """

    def __init__(self, model: Model, ahead: int = 4, least: float = 0.3) -> None:
        if not 1 <= ahead <= MOST_AHEAD or not 0 <= least < 1:
            raise UsageError(f"Drafts go 1 to {MOST_AHEAD} tokens ahead, with a share below 1.")
        self.model, self.ahead, self.least = model, ahead, least
        self.rows = 0

    def extend(self, pool: PagePool, guesses: Sequence[Guess]) -> None:
        """Append guesses to the streams' tokens. Their pages must have room for `most` tokens more
        than are stored and one.
        """
        samplers = [copy.deepcopy(guess.sampler) for guess in guesses]
        active = [index for index, guess in enumerate(guesses) if guess.most > 0]
        for step in range(1, self.ahead + 1):
            if not active:
                return
            streams = [guesses[index].stream for index in active]
            rows = Rows(pool, [Span(s, len(s.tokens) - 1, 1) for s in streams])
            logits = self.model.step(rows.tokens, rows.positions, rows, rows.last)
            self.rows += len(active)
            going: list[int] = []
            for index, stream, row in zip(active, streams, logits, strict=True):
                found = Distribution(row)
                token = samplers[index].pick(found)
                samplers[index].accept(token)
                stream.tokens.append(token)
                sure = math.exp(found.of(token).logprob) >= self.least
                if sure and step < guesses[index].most:
                    going.append(index)
            active = going
