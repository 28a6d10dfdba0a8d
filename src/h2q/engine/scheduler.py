"""Many streams through one model: prompts in chunks, mixed with decoding, one step at a time.

A step runs one row of every stream that is decoding and shares what is left of its rows evenly
among the prompts that are being read. What a stream says never depends on its neighbours: sums of
a row are the same in every batch. When pages run out, the newest stream starts again later from
its tokens. (Yu et al. 2022, Orca; Agrawal et al. 2023, Sarathi.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from h2q.codec.pages import PAGE
from h2q.core.errors import ResourceError, UsageError
from h2q.engine.model import Model, require_tokens
from h2q.engine.page_pool import PagePool
from h2q.engine.rows import Rows, Span
from h2q.engine.sampling import Sampler, log_softmax
from h2q.engine.sinks import turn_sinks
from h2q.engine.stream import Stream

FloatArray = npt.NDArray[np.float32]
MOST_STREAMS = 32
STEP_ROWS = 256
LEAST_CHUNK = 16
Finish = Literal["", "stop", "length", "context"]


@dataclass(frozen=True)
class Request:
    """A prompt and how to go on. `keep`: pages of a ring (engine.stream), 0 to keep everything.
    `stop`: tokens that end without being said.
    """

    prompt: tuple[int, ...]
    sampler: Sampler
    max_tokens: int
    stop: frozenset[int] = frozenset()
    keep: int = 0


@dataclass(frozen=True)
class Said:
    """A token of a stream, or its end: then `finish` is set and `token` is -1. logprob: nats, under
    the unmodified distribution. index: of the token in the answer. prefix: tokens of the prompt
    that were found in the cache.
    """

    stream: int
    token: int
    logprob: float
    index: int
    finish: Finish = ""
    prefix: int = 0


@dataclass
class _Running:
    id: int
    request: Request
    stream: Stream
    prefix: int = 0
    said: int = 0
    chunk: int = field(default=0, compare=False)

    @property
    def left(self) -> int:
        """Tokens whose keys are not stored yet; one while decoding."""
        return len(self.stream.tokens) - self.stream.stored


class Scheduler:
    """Steps a model. Requests beyond `streams` wait in order."""

    def __init__(
        self, model: Model, pool: PagePool, streams: int = MOST_STREAMS, rows: int = STEP_ROWS
    ) -> None:
        if streams < 1 or rows < streams:
            raise UsageError("A scheduler needs a stream, and a row for every stream, at least.")
        self.model, self.pool, self.streams, self.rows = model, pool, streams, rows
        self._waiting: deque[_Running] = deque()
        self._running: list[_Running] = []
        self._next = 0

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._waiting or self._running)

    def add(self, request: Request) -> int:
        """Take a request and return the number of its stream.

        Raises UsageError on an empty prompt, a token outside the vocabulary, or a prompt beyond the
        context; ResourceError when the whole pool could not hold it.
        """
        if not request.prompt:
            raise UsageError("The prompt is empty and the model has no token to begin with.")
        require_tokens(np.array(request.prompt), self.model.spec)
        limit = self.model.spec.max_position_embeddings
        if request.keep * PAGE > limit:
            raise UsageError(f"A ring cannot exceed the model's context of {limit:,}.")
        if not request.keep and len(request.prompt) > limit:
            raise UsageError(
                f"{len(request.prompt):,} tokens do not fit the model's context of {limit:,}.",
                fix="Shorten the prompt, or ask for a ring (constant memory).",
            )
        most = min(len(request.prompt) + request.max_tokens, limit)
        pages = request.keep + 1 if request.keep else -(-most // PAGE)
        if pages > self.pool.count:
            raise ResourceError(
                f"The stream may grow to {pages:,} pages of {PAGE} positions; the cache has "
                f"{self.pool.count:,}.",
                fix="Give the cache more memory, ask for fewer tokens, or for a ring.",
            )
        stream = Stream(self.pool, request.prompt, request.keep)
        self._waiting.append(_Running(self._next, request, stream))
        self._next += 1
        return self._next - 1

    def cancel(self, stream: int) -> bool:
        """End a stream before the next step; whether it was there."""
        for queue in (self._running, self._waiting):
            for running in queue:
                if running.id == stream:
                    running.stream.close()
                    queue.remove(running)
                    return True
        return False

    def step(self) -> list[Said]:
        """Run the model once. At most one token per stream comes out, and its end."""
        self._admit()
        spans, ends = self._plan()
        if not spans:
            return ends
        rows = Rows(self.pool, spans)
        whole = [span for span in spans if span.begin + span.count == len(span.stream.tokens)]
        wanted = rows.last[[index for index, span in enumerate(spans) if span in whole]]
        logits = self.model.step(rows.tokens, rows.positions, rows, wanted)
        for span in spans:
            span.stream.advance(span.count)
        talking = {id(span.stream): index for index, span in enumerate(whole)}
        for running in list(self._running):
            if (index := talking.get(id(running.stream))) is not None:
                ends += self._say(running, logits[index : index + 1])
        return ends

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.streams:
            running = self._waiting[0]
            if self._running and self.pool.free < min(running.stream.needed(running.left), 4):
                return
            running.prefix = max(running.prefix, running.stream.find_prefix())
            self._running.append(self._waiting.popleft())

    def _plan(self) -> tuple[list[Span], list[Said]]:
        """What to run now; streams that end for want of context."""
        ends: list[Said] = []
        limit = self.model.spec.max_position_embeddings
        for running in list(self._running):
            if not running.request.keep and len(running.stream.tokens) > limit:
                ends.append(self._end(running, "context"))
        reading = [r for r in self._running if r.left > 1]
        spare = self.rows - (len(self._running) - len(reading))
        share = max(LEAST_CHUNK, spare // max(1, len(reading)))
        spans: list[Span] = []
        for running in list(self._running):
            if running not in self._running:
                continue  # it gave its pages to an older one
            count = 1 if running.left == 1 else min(running.left, share, spare)
            if running.left > 1:
                spare -= count
            if count > 0 and (count := self._room(running, count)):
                spans.append(Span(running.stream, running.stream.stored, count))
        return [span for span in spans if span.stream.pages], ends

    def _room(self, running: _Running, count: int) -> int:
        """Give the stream pages for its next tokens; how many of them it can store now. Takes pages
        from newer streams where there are no others.
        """
        stream = running.stream
        while stream.must_drop():
            if stream.sinks is None and not self._free_page(running):
                return 0
            page = stream.drop()
            assert stream.sinks is not None
            turn_sinks(self.model, self.pool, stream.sinks, page, stream.dropped * PAGE)
        count = stream.reach(count)
        while stream.needed(count) > 0:
            if not self._free_page(running):
                return 0
            stream.pages.append(self.pool.take())
        return count

    def _free_page(self, asking: _Running) -> bool:
        """Whether a page can be taken; the newest stream behind the asking one starts again later
        for it, or the asking one itself.
        """
        while not self.pool.free:
            newest = self._running[-1]
            newest.stream.close()
            self._running.remove(newest)
            self._waiting.appendleft(newest)
            if newest is asking:
                return False
        return True

    def _say(self, running: _Running, logits: FloatArray) -> list[Said]:
        request = running.request
        if running.said >= request.max_tokens:
            return [self._end(running, "length")]
        token = int(request.sampler.choose(logits)[0])
        if token in request.stop:
            return [self._end(running, "stop")]
        logprob = float(log_softmax(logits)[0, token])
        said = Said(running.id, token, logprob, running.said, prefix=running.prefix)
        running.stream.tokens.append(token)
        running.said += 1
        if running.said == request.max_tokens:
            return [said, self._end(running, "length")]
        return [said]

    def _end(self, running: _Running, finish: Finish) -> Said:
        running.stream.close()
        self._running.remove(running)
        return Said(running.id, -1, 0.0, running.said, finish, running.prefix)


def pages_for(tokens: Sequence[int]) -> int:
    """Pages that streams of these many positions take."""
    return sum(-(-count // PAGE) for count in tokens)
