"""HTTP on a socket: uvicorn's protocol with limits on heads, and on how long one may take."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from h2q.server.limits import MAX_HEADER_BYTES, Limits


def protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """A protocol class with these limits."""

    class Bounded(HttpToolsProtocol):
        """Ends a connection whose request's head is too slow or too long."""

        _timer: asyncio.TimerHandle | None = None
        _head = 0  # bytes since the head began; -1 while a body is under way

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
                return
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._head >= 0:
                self._head += len(data)
            super().data_received(data)
            if self._head > MAX_HEADER_BYTES:
                self._refuse("431 Request Header Fields Too Large")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._head = 0
            if self._timer is None:
                self._await_head()

        def on_headers_complete(self) -> None:
            self._stop_timer()
            self._head = -1
            super().on_headers_complete()

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
