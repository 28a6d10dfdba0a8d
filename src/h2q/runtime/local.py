"""A worker over a model in this process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor

from h2q.core.asks import Ask, EmbedAsk, Embeddings
from h2q.core.errors import H2QError, ResourceError, UsageError
from h2q.core.events import TokenEvent
from h2q.runtime.inbox import Inbox
from h2q.runtime.reading import Going
from h2q.runtime.service import Service
from h2q.runtime.worker import ENDED, Control, Order, WorkerState


class LocalWorker:
    """See Worker. Its model computes in a thread of its own; the loop never waits for it."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._starting = self._stopped = False
        self._asking = ThreadPoolExecutor(1, "asking")  # asks begin in the order they came

    async def start(self, order: Order) -> WorkerState:
        if self._starting or self._service is not None:
            raise UsageError("The worker has a model already.")
        if self._stopped:
            raise ResourceError(ENDED)
        self._starting = True
        try:
            made = asyncio.wrap_future(self._asking.submit(_service, order))
            try:
                service = await asyncio.shield(made)
            except asyncio.CancelledError:
                made.add_done_callback(_close)
                raise
        finally:
            self._starting = False
        if self._stopped:
            await asyncio.to_thread(service.close)
            raise ResourceError(ENDED)
        self._service = service
        return service.state()

    async def generate(self, ask: Ask) -> AsyncIterator[TokenEvent]:
        service, loop = self._started(), asyncio.get_running_loop()
        inbox = Inbox(lambda count: going.took(count))

        def read(events: list[TokenEvent], error: H2QError | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and who asked with it
                loop.call_soon_threadsafe(inbox.tell, events, error)

        submitted = self._submitted(service.submit, ask, read)
        try:
            going = await asyncio.wrap_future(submitted)
            async for event in inbox:
                yield event
        finally:
            if not inbox.ended:
                submitted.add_done_callback(_cancel)

    async def embed(self, ask: EmbedAsk) -> Embeddings:
        return await asyncio.to_thread(self._started().embed, ask)

    async def count(self, ask: Ask) -> int:
        return await asyncio.to_thread(self._started().count, ask)

    async def control(self, control: Control) -> WorkerState:
        return await asyncio.to_thread(self._started().control, control)

    async def stop(self) -> None:
        service, self._service, self._stopped = self._service, None, True
        if service is not None:
            await asyncio.to_thread(service.close)
            del service
            await asyncio.to_thread(gc.collect)  # maps go with the last array
        await asyncio.to_thread(self._asking.shutdown)

    def _started(self) -> Service:
        if self._service is None:
            raise (
                ResourceError(ENDED)
                if self._stopped
                else UsageError("The worker has no model yet.")
            )
        return self._service

    def _submitted(self, work: Callable[..., Going], *given: object) -> Future[Going]:
        try:
            return self._asking.submit(work, *given)
        except RuntimeError as error:  # it was shut down
            raise ResourceError(ENDED) from error


def _service(order: Order) -> Service:
    if order.threads is not None:
        from h2q.kernels import set_threads

        set_threads(order.threads)
    return Service(order)


def _close(made: asyncio.Future[Service]) -> None:
    if not made.cancelled() and made.exception() is None:
        asyncio.get_running_loop().run_in_executor(None, made.result().close)


def _cancel(submitted: Future[Going]) -> None:
    if not submitted.cancelled() and submitted.exception() is None:
        submitted.result().cancel()
