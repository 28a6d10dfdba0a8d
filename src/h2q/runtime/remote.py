"""A worker over a model in a process of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import TypeVar, cast

from h2q.core.asks import Ask, EmbedAsk, Embeddings
from h2q.core.errors import H2QError, ResourceError, UsageError
from h2q.core.events import TokenEvent
from h2q.runtime.child import GRACE_SECONDS, Child, Spares, new_child
from h2q.runtime.frames import (
    LENGTH,
    Cancel,
    Count,
    Counted,
    Embed,
    Events,
    Failed,
    Generate,
    Question,
    Reply,
    Start,
    State,
    Took,
    Vectors,
    Wish,
    error_of,
    frame,
    frame_length,
    reply,
)
from h2q.runtime.inbox import Inbox
from h2q.runtime.worker import ENDED, Control, Order, WorkerState

FIRST_WORDS = 1.0  # seconds in which no next spare competes with a model for its first answer

Wanted = TypeVar("Wanted", State, Vectors, Counted)


class ProcessWorker:
    """See Worker. spares: where a process may be ready; without them one is started. Belongs to the
    loop that starts it.
    """

    def __init__(self, spares: Spares | None = None) -> None:
        self._spares = spares
        self._child: Child | None = None
        self._line: _Line | None = None
        self._starting = False
        self._over: H2QError | None = None  # what every call is told from then on
        self._ended = asyncio.Event()
        self._breaking: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Reply]] = {}
        self._answers: dict[int, Inbox] = {}

    @property
    def process(self) -> int | None:
        """Number of the model's process while it lives."""
        return None if self._child is None or self._over else self._child.id

    async def ended(self) -> H2QError:
        """Wait for the end of the process, wished for or not; the error that calls are told."""
        await self._ended.wait()
        return self._why()

    def _why(self) -> H2QError:
        """A new one each time: whoever raises it adds where."""
        told = self._over or ResourceError(ENDED)
        return told.at(told.where)

    async def start(self, order: Order) -> WorkerState:
        if self._starting:
            raise UsageError("The worker has a model already.")
        self._starting = True
        try:
            self._child = await (self._spares.take() if self._spares else new_child())
            if self._over is not None:  # stopped meanwhile
                raise self._why()
            self._line = await self._opened(self._child)
            found = await self._asked(Start(next(self._numbers), order), State)
        except BaseException:
            await asyncio.shield(self.stop())
            raise
        finally:
            if self._spares is not None:
                self._spares.refill(FIRST_WORDS)
        return found.state

    async def _opened(self, child: Child) -> _Line:
        child.line.setblocking(False)
        _, line = await asyncio.get_running_loop().create_connection(
            lambda: _Line(self), sock=child.line
        )
        return line

    async def generate(self, ask: Ask) -> AsyncIterator[TokenEvent]:
        call = next(self._numbers)
        inbox = Inbox(lambda count: self._send(Took(call, count)))
        self._require()
        self._send(Generate(call, ask))
        self._answers[call] = inbox
        try:
            async for event in inbox:
                yield event
        finally:
            self._answers.pop(call, None)
            if not inbox.ended:
                self._send(Cancel(call))

    async def embed(self, ask: EmbedAsk) -> Embeddings:
        return (await self._asked(Embed(next(self._numbers), ask), Vectors)).vectors

    async def count(self, ask: Ask) -> int:
        return (await self._asked(Count(next(self._numbers), ask), Counted)).count

    async def control(self, control: Control) -> WorkerState:
        return (await self._asked(Wish(next(self._numbers), control), State)).state

    async def stop(self) -> None:
        self._fail(ResourceError(ENDED))
        if self._line is not None:
            self._line.close()
        if self._child is not None:
            await asyncio.shield(asyncio.to_thread(self._child.end))
        self._ended.set()

    async def _asked(self, asked: Question, kind: type[Wanted]) -> Wanted:
        self._require()
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._calls[asked.id] = future
        try:
            self._send(asked)
            found = await future
        finally:
            self._calls.pop(asked.id, None)
        if isinstance(found, Failed):
            raise error_of(found)
        if not isinstance(found, kind):
            raise ResourceError("The model's process gave an answer to another question.")
        return found

    def _require(self) -> None:
        if self._over is not None:
            raise self._why()
        if self._line is None:
            raise UsageError("The worker has no model yet.")

    def _send(self, message: Question) -> None:
        if self._line is not None and self._over is None:
            self._line.write(frame(message))

    def take(self, told: Reply) -> None:
        """What the process says."""
        if isinstance(told, Events):
            for call, events in told.answers:
                inbox = self._answers.get(call)
                if inbox is not None:
                    inbox.tell(events)
        elif isinstance(told, Failed) and told.id in self._answers:
            self._answers[told.id].tell([], error_of(told))
        elif (call_of := self._calls.get(told.id)) is not None and not call_of.done():
            call_of.set_result(told)

    def broke(self, error: H2QError | None) -> None:
        """The line has ended, or the process broke its rules."""
        if self._over is None and self._breaking is None:
            self._breaking = asyncio.ensure_future(self._break(error))

    async def _break(self, error: H2QError | None) -> None:
        child = self._child
        if child is not None:
            if error is None:
                why = await asyncio.to_thread(child.reason, GRACE_SECONDS)
                error = ResourceError(
                    f"The model's process is gone: {why}.",
                    fix="Ask again: it is started anew. If memory ran out, take fewer planes.",
                )
            await asyncio.to_thread(child.end, 0.0)
        self._fail(error or ResourceError(ENDED))
        self._ended.set()

    def _fail(self, error: H2QError) -> None:
        """All that is open, and all that comes."""
        if self._over is None:
            self._over = error
        for call in self._calls.values():
            if not call.done():
                call.set_exception(self._why())
        for inbox in self._answers.values():
            if not inbox.ended:
                inbox.tell([], self._why())


class _Line(asyncio.Protocol):
    """The socket to the child: frames in, frames out."""

    def __init__(self, worker: ProcessWorker) -> None:
        self._worker = worker
        self._data = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            begin = 0
            while len(self._data) >= begin + LENGTH.size:
                body = begin + LENGTH.size
                end = body + frame_length(bytes(self._data[begin:body]))
                if len(self._data) < end:
                    break
                self._worker.take(reply(bytes(self._data[body:end])))
                begin = end
            del self._data[:begin]
        except H2QError as error:
            self.close()
            self._worker.broke(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._worker.broke(None)
