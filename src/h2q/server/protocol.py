"""HTTP on a socket: uvicorn's protocol with limits on heads, and on how long one may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from h2q.server.leaving import leaving
from h2q.server.limits import MAX_HEADER_BYTES, Limits

LINGER_SECONDS = 1.0


class Lingering:
    """A socket that, when it is closed amid a request, says no more but reads on for a moment: who
    is cut off while sending never sees the answer.
    """

    def __init__(
        self, socket: Any, loop: asyncio.AbstractEventLoop, amid: Callable[[], bool]
    ) -> None:
        self._socket, self._loop, self._amid = socket, loop, amid
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def is_closing(self) -> bool:
        return self._closing or bool(self._socket.is_closing())

    def close(self) -> None:
        if self.is_closing():
            return
        self._closing = True
        if not self._amid():
            self._socket.close()
            return
        self._socket.write_eof()
        self._loop.call_later(LINGER_SECONDS, self._socket.close)

    def lost(self) -> None:
        """The connection is over: let go of who asked, which holds this in turn. Memory is free
        then, not when the collector of cycles next comes round.
        """
        self._amid = bool


class AnyLength(int):
    """Bytes of an answer whose number is not known: as many as come are right."""

    def __lt__(self, other: int) -> bool:
        return False

    def __sub__(self, other: int) -> AnyLength:
        return self


def protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """A protocol class with these limits."""

    class Bounded(HttpToolsProtocol):
        """Ends a connection whose request's head is too slow or too long."""

        _timer: asyncio.TimerHandle | None = None
        _head = 0  # bytes since the head began; -1 while a body is under way

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._lingering = Lingering(transport, self.loop, self._amid_request)
            self.transport = self._lingering  # type: ignore[assignment]
            self._left = leaving(self.transport)
            if len(self.connections) > limits.connections:
                transport.abort()
                return
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)
            self._lingering.lost()

        def data_received(self, data: bytes) -> None:
            if self._head >= 0:
                self._head += len(data)
            super().data_received(data)
            if self._head > MAX_HEADER_BYTES:
                self._refuse("431 Request Header Fields Too Large")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["h2q.left"] = self._left  # type: ignore[typeddict-unknown-key]
            self._head = 0
            if self._timer is None:
                self._await_head()

        def on_headers_complete(self) -> None:
            self._stop_timer()
            self._head = -1
            super().on_headers_complete()
            if self.cycle is not None and self.scope["http_version"] == "1.0":
                self.cycle.chunked_encoding = False  # it knows none: the end of it all is the end
                self.cycle.expected_content_length = AnyLength()

        def _amid_request(self) -> bool:
            return self.cycle is not None and self.cycle.more_body

        def _await_head(self) -> None:
            self._timer = self.loop.call_later(
                limits.header_seconds, self._refuse, "408 Request Timeout"
            )

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _refuse(self, status: str) -> None:
            if self.transport.is_closing():
                return
            if self.cycle is None or self.cycle.response_complete:
                head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                self.transport.write(head.encode())
            self.transport.close()

    return Bounded
