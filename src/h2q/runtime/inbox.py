"""Events of one answer on their way to an iterator of an asyncio loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from h2q.core.errors import H2QError
from h2q.core.events import TokenEvent
from h2q.runtime.worker import SHARE


class Inbox:
    """Asynchronous iterator over events, up to the last one or an error. took: called with how many
    have been read, now and then. Everything happens on the loop's own thread.
    """

    def __init__(self, took: Callable[[int], None]) -> None:
        self._took = took
        self._events: deque[TokenEvent] = deque()
        self._error: H2QError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._read = 0
        self.ended = False

    def tell(self, events: list[TokenEvent], error: H2QError | None = None) -> None:
        """Events, and the error that ends the answer behind them."""
        self._events += events
        if self._error is None:
            self._error = error
        if error is not None or (events and events[-1].finish):
            self.ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Inbox:
        return self

    async def __anext__(self) -> TokenEvent:
        while not self._events:
            if self._error is not None:
                raise self._error
            if self.ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._read += 1
        if self._read % SHARE == 0:
            self._took(SHARE)
        return self._events.popleft()
