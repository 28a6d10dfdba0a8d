"""A worker on a model in this process: the whole protocol without a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from h2q.core.asks import Ask, EmbedAsk, Embeddings
from h2q.core.errors import H2QError, ResourceError
from h2q.core.events import TokenEvent
from h2q.runtime.service import Service
from h2q.runtime.worker import Control, Order, WorkerState


class ServiceWorker:
    """Counts how many are alive, and how many ever were."""

    alive = 0
    made = 0

    def __init__(self) -> None:
        self.service: Service | None = None
        self.order: Order | None = None
        type(self).made += 1

    async def start(self, order: Order) -> WorkerState:
        self.order = order
        self.service = await asyncio.to_thread(Service, order)
        type(self).alive += 1
        return self.service.state()

    async def generate(self, ask: Ask) -> AsyncIterator[TokenEvent]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[TokenEvent | H2QError] = asyncio.Queue()

        def read(events: list[TokenEvent], error: H2QError | None) -> None:
            for found in [*events, *([error] if error is not None else [])]:
                loop.call_soon_threadsafe(queue.put_nowait, found)

        going = self._there().submit(ask, read)
        try:
            while True:
                found = await queue.get()
                if isinstance(found, H2QError):
                    raise found
                yield found
                going.took(1)
                if found.finish:
                    return
        finally:
            going.cancel()

    async def embed(self, ask: EmbedAsk) -> Embeddings:
        return await asyncio.to_thread(self._there().embed, ask)

    async def count(self, ask: Ask) -> int:
        return self._there().count(ask)

    async def control(self, control: Control) -> WorkerState:
        return self._there().control(control)

    async def stop(self) -> None:
        if self.service is not None:
            await asyncio.to_thread(self.service.close)
            self.service = None
            type(self).alive -= 1

    def die(self) -> None:
        """As a process that was killed."""
        if self.service is not None:
            self.service.close()
            self.service = None
            type(self).alive -= 1

    def _there(self) -> Service:
        if self.service is None:
            raise ResourceError("The worker is gone.")
        return self.service
