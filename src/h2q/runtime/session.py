"""One person's conversation with a model: prompts in, token events out, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h2q.codec.pages import PAGE
from h2q.core.events import StageEvent, TokenEvent
from h2q.engine import Sampler
from h2q.engine.requests import Request, Said
from h2q.engine.scheduler import Scheduler
from h2q.runtime.loading import Started, cache_pages

if TYPE_CHECKING:
    from h2q.text.stream import ByteStream, TextStream


@dataclass
class Statistics:
    """Of the last stream: counts, seconds to the first token and in all."""

    prompt_tokens: int = 0
    tokens: int = 0
    first_token_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Of decoding, the first token (whose time is the prompt's) left out; 0 when there were
        fewer than two.
        """
        rest = self.seconds - self.first_token_seconds
        return (self.tokens - 1) / rest if self.tokens > 1 and rest > 0 else 0.0


class Session:
    """A started model with the pages of one stream. `timeline` tells how the start went,
    `scheduler` counts drafts.

    ring: positions to keep in constant memory, 0 for all of the context. Raises UsageError for a
    ring that is too small or exceeds the context.
    """

    def __init__(self, started: Started, ring: int = 0) -> None:
        self.started, self.model, self.tokenizer = started, started.model, started.tokenizer
        self.statistics = Statistics()
        self.keep = ring_pages(ring)
        self.pool = cache_pages(started)
        self.scheduler = Scheduler(started.model, self.pool, 1, started.rows, started.drafter)

    @property
    def planes(self) -> int:
        """Coded planes that take part now."""
        return self.started.planes

    @property
    def timeline(self) -> list[StageEvent]:
        return self.started.timeline

    def close(self) -> None:
        """Give everything back."""
        self.started.close()

    def stream(
        self, prompt: str, max_tokens: int = 256, sampler: Sampler | None = None
    ) -> Iterator[TokenEvent]:
        """Yield one event per token; the last one has `finish` set ("stop", "length" or "context").

        Raises UsageError when the prompt does not fit the context, TextError when it cannot be
        encoded, and what the sampler raises.
        """
        began = time.perf_counter()
        spec = self.model.spec
        ids = self.tokenizer.encode(prompt)
        if not ids and spec.bos_token_id is not None:
            ids = [spec.bos_token_id]
        self.statistics = Statistics(prompt_tokens=len(ids))
        text = self.tokenizer.stream()
        stops = frozenset(spec.eos_token_ids)
        request = Request(tuple(ids), sampler or Sampler(), max_tokens, stops, self.keep)
        name = self.scheduler.add(request)
        try:
            while self.scheduler.busy:
                if self.started.between_steps():
                    self.pool.root = f"{self.planes} {len(self.timeline)}".encode()
                told = self.scheduler.step()
                if told:
                    self.started.spoke()
                for said in told:
                    if said.error is not None:
                        raise said.error
                    yield self._event(said, text, time.perf_counter() - began)
        finally:
            self.scheduler.cancel(name)

    def _event(self, said: Said, text: TextStream | ByteStream, elapsed: float) -> TokenEvent:
        told = said.likelihood
        if told is None:
            piece = text.flush()
            return TokenEvent(-1, piece, 0.0, said.index, self.planes, elapsed, said.finish)
        figures = self.statistics
        if said.index == 0:
            figures.first_token_seconds = elapsed
        figures.tokens, figures.seconds = said.index + 1, elapsed
        return TokenEvent(
            said.token,
            text.push(said.token),
            told.logprob,
            said.index,
            self.planes,
            elapsed,
            entropy=told.entropy,
            top=told.top,
        )


def ring_pages(positions: int) -> int:
    """Pages of a ring of at least so many positions."""
    return -(-positions // PAGE)
