"""One person's conversation with a model: prompts in, token events out, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from h2q.core.events import StageEvent, TokenEvent
from h2q.engine import Model, Sampler, generate
from h2q.text import Tokenizer


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
    """A model with its tokenizer. `timeline` tells how the start went."""

    def __init__(self, model: Model, tokenizer: Tokenizer, timeline: list[StageEvent]) -> None:
        self.model, self.tokenizer, self.timeline = model, tokenizer, timeline
        self.planes = 1
        self.statistics = Statistics()

    def stream(
        self, prompt: str, max_tokens: int = 256, sampler: Sampler | None = None
    ) -> Iterator[TokenEvent]:
        """Yield one event per token; the last one has `finish` set ("stop", "length" or "context").

        Raises UsageError when the prompt does not fit the context, TextError when it cannot be
        encoded.
        """
        began = time.perf_counter()
        spec = self.model.spec
        ids = self.tokenizer.encode(prompt)
        if not ids and spec.bos_token_id is not None:
            ids = [spec.bos_token_id]
        self.statistics = Statistics(prompt_tokens=len(ids))
        text = self.tokenizer.stream()
        count = 0
        stops = set(spec.eos_token_ids)
        cache = self.model.new_cache()
        for token, logprob in generate(
            self.model, ids, sampler or Sampler(), max_tokens, stops, cache
        ):
            elapsed = time.perf_counter() - began
            if count == 0:
                self.statistics.first_token_seconds = elapsed
            yield TokenEvent(token, text.push(token), logprob, count, self.planes, elapsed)
            count += 1
            self.statistics.tokens = count
            self.statistics.seconds = time.perf_counter() - began
        full = cache.length >= cache.limit
        finish = "length" if count == max_tokens else "context" if full else "stop"
        elapsed = time.perf_counter() - began
        yield TokenEvent(-1, text.flush(), 0.0, count, self.planes, elapsed, finish)
