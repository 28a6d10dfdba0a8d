"""Work for a client that may leave at any moment: it ends within one step when that happens."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from h2q.server.refusal import Gone, Refusal

if TYPE_CHECKING:
    from h2q.server.request import Request

Result = TypeVar("Result")
LOOK_SECONDS = 1.0  # how often time limits are looked at; a token costs nothing for them


class Pen:
    """Sends pieces of an answer, and knows since when a client has not taken one."""

    def __init__(self, request: Request) -> None:
        self._send, self._left = request.send, request.left
        self._now = asyncio.get_running_loop().time
        self.busy_since = 0.0
        self.begun = False

    async def begin(self, media_type: bytes, status: int = 200) -> None:
        """The status and headers of a stream."""
        headers = [(b"content-type", media_type), (b"cache-control", b"no-cache")]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        self.begun = True

    async def write(self, piece: bytes, more: bool = True) -> None:
        """One piece, at once. Raises Gone instead when the client has left, though the loop may not
        have read that yet.
        """
        if self._left():
            raise Gone
        self.busy_since = self._now()
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        self.busy_since = 0.0


async def while_connected(
    request: Request, work: Coroutine[Any, Any, Result], pen: Pen | None = None
) -> Result:
    """The result of the work. Raises Gone when the client leaves or takes no piece for too long,
    Refusal (504) when all of it takes too long; the work is cancelled and has ended then.
    """
    limits, now = request.settings.limits, asyncio.get_running_loop().time
    late = now() + limits.answer_seconds
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(request.gone())
    try:
        while True:
            await asyncio.wait(
                {task, watch}, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if task.done():
                return task.result()
            if watch.done():
                raise Gone
            if pen and pen.busy_since and now() - pen.busy_since > limits.write_seconds:
                raise Gone
            if now() > late:
                raise Refusal(504, f"the answer took more than {limits.answer_seconds:g} s")
    finally:
        watch.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # it is of no interest any more
