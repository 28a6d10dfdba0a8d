"""Many streams through one model: prompts in chunks, mixed with decoding, one step at a time.

A step runs one row of every stream that is decoding and shares what is left of its rows evenly
among the prompts that are being read. What a stream says never depends on its neighbours: sums of
a row are the same in every batch. When pages run out, the newest stream starts again later from
its tokens. (Yu et al. 2022, Orca; Agrawal et al. 2023, Sarathi.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q.codec.pages import PAGE
from h2q.core.errors import H2QError, ResourceError, UsageError
from h2q.engine.drafts import Drafter, Guess
from h2q.engine.model import Model, require_tokens
from h2q.engine.page_pool import PagePool
from h2q.engine.requests import Finish, Request, Said, choose
from h2q.engine.rows import Rows, Span
from h2q.engine.sinks import make_room, pages_wanted
from h2q.engine.stream import Stream

FloatArray = npt.NDArray[np.float32]
MOST_STREAMS = 32
STEP_ROWS = 256
LEAST_CHUNK = 16
PAGES_TO_BEGIN = 4  # a prompt waits for as many, or for all it needs, while others run


@dataclass
class _Running:
    id: int
    request: Request
    stream: Stream
    prefix: int = 0
    said: int = 0

    @property
    def left(self) -> int:
        """Tokens whose keys are not stored yet; one while decoding."""
        return len(self.stream.tokens) - self.stream.stored


Turn = tuple[_Running, int]


class Scheduler:
    """Steps a model. Requests beyond `streams` wait in order. `drafter`, when given, guesses ahead;
    of `drafted` tokens `accepted` were right. Streams in `resting` do, until they are taken out.
    """

    def __init__(
        self,
        model: Model,
        pool: PagePool,
        streams: int = MOST_STREAMS,
        rows: int = STEP_ROWS,
        drafter: Drafter | None = None,
    ) -> None:
        if streams < 1 or rows < streams:
            raise UsageError("A scheduler needs a stream, and a row for every stream, at least.")
        self.model, self.pool, self.streams, self.rows = model, pool, streams, rows
        self._waiting: deque[_Running] = deque()
        self._running: list[_Running] = []
        self._next = 0
        self.drafter = drafter
        self.drafted = self.accepted = 0
        self.resting: set[int] = set()

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return self._may_begin() or any(r.id not in self.resting for r in self._running)

    @property
    def running(self) -> list[int]:
        """Numbers of the streams that have begun and not ended."""
        return [running.id for running in self._running]

    @property
    def waiting(self) -> int:
        """How many streams have not begun, or must begin again."""
        return len(self._waiting)

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
        self.resting.discard(stream)
        for queue in (self._running, self._waiting):
            for running in queue:
                if running.id == stream:
                    running.stream.close()
                    queue.remove(running)
                    return True
        return False

    def step(self) -> list[Said]:
        """Run the model once. What streams say, in order, and their ends: one token per stream, or
        several where drafts were right.
        """
        self._admit()
        ends = self._end_full()
        talking, reading = self._plan()
        if self.drafter is not None:
            self._draft(self.drafter, talking)
        spans = [Span(r.stream, r.stream.stored, r.left) for r, _ in talking]
        spans += [Span(r.stream, r.stream.stored, count) for r, count in reading]
        if not spans:
            return ends
        rows = Rows(self.pool, spans)
        done = [(r, count) for r, count in reading if count == r.left]
        heard = [(r, r.left) for r, _ in talking] + [(r, 1) for r, _ in done]
        wanted = self._wanted(rows, spans, {id(r.stream): voices for r, voices in heard})
        logits = self.model.step(rows.tokens, rows.positions, rows, wanted)
        for running, count in reading:
            running.stream.advance(count)
        at = 0
        for running, voices in heard:
            ends += self._hear(running, logits[at : at + voices])
            at += voices
        return ends

    @staticmethod
    def _wanted(rows: Rows, spans: Sequence[Span], voices: dict[int, int]) -> list[int]:
        """Rows whose logits are needed: all of streams that talk, the last of a prompt."""
        found: list[int] = []
        for span, last in zip(spans, rows.last, strict=True):
            found += range(last + 1 - voices.get(id(span.stream), 0), last + 1)
        return found

    def _may_begin(self) -> bool:
        if not self._waiting or len(self._running) >= self.streams:
            return False
        running = self._waiting[0]
        wanted = min(running.stream.needed(running.left), PAGES_TO_BEGIN)
        return not self._running or self.pool.free >= wanted

    def _admit(self) -> None:
        while self._may_begin():
            running = self._waiting[0]
            running.prefix = max(running.prefix, running.stream.find_prefix())
            self._running.append(self._waiting.popleft())

    def _end_full(self) -> list[Said]:
        limit = self.model.spec.max_position_embeddings
        full = [r for r in self._running if not r.request.keep and len(r.stream.tokens) > limit]
        return [self._end(running, "context") for running in full]

    def _plan(self) -> tuple[list[Turn], list[Turn]]:
        """Streams that talk, with room for that many tokens, and prompts to be read, with how many
        tokens of them to read now.
        """
        talking: list[Turn] = []
        reading: list[Turn] = []
        prompts = sum(running.left > 1 for running in self._running)
        spare = self.rows - (len(self._running) - prompts)
        share = max(LEAST_CHUNK, spare // max(1, prompts))
        for running in list(self._running):
            if running not in self._running or running.id in self.resting:
                continue  # it gave its pages to an older one, or rests
            if running.left == 1:
                if self._room(running, 1):
                    talking.append((running, self._more(running)))
                continue
            count = min(running.left, share, spare)
            if count > 0 and (count := self._room(running, count)):
                reading.append((running, count))
                spare -= count
        return talking, reading

    def _more(self, running: _Running) -> int:
        """How many tokens a stream with room for one may talk at once: drafts never go past the end
        of the answer or of the context, nor take pages from others.
        """
        if self.drafter is None:
            return 1
        count = 1 + min(self.drafter.ahead, running.request.max_tokens - running.said - 1)
        if not running.request.keep:
            limit = self.model.spec.max_position_embeddings
            count = min(count, 1 + limit - len(running.stream.tokens))
        if count <= 1 or self.pool.free < pages_wanted(running.stream, count):
            return 1
        return make_room(self.model, running.stream, count)

    def _draft(self, drafter: Drafter, talking: Sequence[Turn]) -> None:
        guesses = [Guess(r.stream, r.request.sampler, count - 1) for r, count in talking]
        drafter.extend(self.pool, guesses)
        self.drafted += sum(running.left - 1 for running, _ in talking)

    def _room(self, running: _Running, count: int) -> int:
        """Give the stream pages for its next tokens; how many of them it can store now. Takes pages
        from streams that rest, then from newer ones, where there are no others.
        """
        while self.pool.free < pages_wanted(running.stream, count):
            resting = [r for r in self._running if r.id in self.resting]
            newest = (resting or self._running)[-1]
            newest.stream.close()
            self._running.remove(newest)
            self._waiting.appendleft(newest)
            if newest is running:
                return 0
        return make_room(self.model, running.stream, count)

    def _hear(self, running: _Running, logits: FloatArray) -> list[Said]:
        """Choose a token after each row, as long as the row behind it was the one chosen."""
        stream = running.stream
        drafts = stream.tokens[len(stream.tokens) - len(logits) + 1 :]
        del stream.tokens[len(stream.tokens) - len(drafts) :]
        found: list[Said] = []
        talked = running.left == 1
        for index, row in enumerate(logits):
            if talked:
                stream.advance(1)
            found += self._say(running, row)
            if found[-1].finish or index == len(drafts) or stream.tokens[-1] != drafts[index]:
                break
            self.accepted += 1
        return found

    def _say(self, running: _Running, logits: FloatArray) -> list[Said]:
        request = running.request
        if running.said >= request.max_tokens:
            return [self._end(running, "length")]
        try:
            chosen = choose(request, logits)
        except H2QError as error:  # of this stream alone
            return [self._end(running, "error", error)]
        if chosen is None:
            return [self._end(running, "stop")]
        token, told = chosen
        said = Said(running.id, token, running.said, told, prefix=running.prefix)
        running.stream.tokens.append(token)
        running.said += 1
        if running.said == request.max_tokens:
            return [said, self._end(running, "length")]
        return [said]

    def _end(self, running: _Running, finish: Finish, error: H2QError | None = None) -> Said:
        running.stream.close()
        self._running.remove(running)
        self.resting.discard(running.id)
        return Said(running.id, -1, running.said, None, finish, running.prefix, error)
