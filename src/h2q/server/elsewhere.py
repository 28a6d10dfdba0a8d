"""Another server that speaks Ollama's API: its lists, and requests passed to it byte for byte."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h2q.server.connected import Pen, while_connected
from h2q.server.refusal import Gone, Refusal, refusal_of
from h2q.server.reply import Reply

if TYPE_CHECKING:
    import httpx2

    from h2q.server.dialect import Dialect
    from h2q.server.request import Request

CONNECT_SECONDS, LIST_SECONDS = 5.0, 2.0
MAX_WHOLE = 64 << 20  # bytes of an answer that is not streamed, so that it is whole or an error
MAX_LIST = 8 << 20
HOP = b"x-h2q-hop"  # two servers that name each other must not pass a request back and forth
# Neither keys nor cookies: they are meant for this server.
PASSED = {b"accept", b"content-type", b"user-agent", b"anthropic-version", b"anthropic-beta"}
JSON, NDJSON, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"


@dataclass(frozen=True)
class Answered:
    """What came from there: whole or, with `whole` None, in pieces."""

    status: int
    media_type: str
    whole: bytes | None
    pieces: AsyncIterator[bytes]


class Elsewhere:
    """`url` without a slash at its end. silent_seconds: it may say nothing for so long."""

    def __init__(self, url: str, silent_seconds: float) -> None:
        self.url, self._silent = url, silent_seconds
        self._client: httpx2.AsyncClient | None = None

    async def get(self, path: str) -> Any:
        """A JSON document; None when there is none in time."""
        import httpx2

        try:
            async with self._opened().stream("GET", self.url + path, timeout=LIST_SECONDS) as found:
                if found.status_code != 200:
                    return None
                data = await _bounded(found, MAX_LIST)
                return None if data is None else json.loads(data)
        except (httpx2.HTTPError, ValueError, RecursionError):
            return None

    async def forward(self, request: Request, dialect: Dialect) -> Reply | None:
        """Pass a request on and its answer back, unchanged. Raises Refusal while nothing was sent;
        later errors are told in the stream. Raises Gone when the client leaves; the other server
        sees that then.
        """
        pen, last = Pen(request), [b""]
        try:
            with request.app.gate.enter(request.client) as place:
                place.begin()
                return await while_connected(request, self._forward(request, pen, last), pen)
        except Gone:
            raise
        except Exception as error:
            if not pen.begun:
                raise
            refusal = refusal_of(error)
            request.app.log.failed(request, error, refusal)
            await pen.write(_told(last, dialect.error(refusal).body, request), more=False)
            return None

    async def _forward(self, request: Request, pen: Pen, last: list[bytes]) -> Reply | None:
        async with self._answered(request) as found:
            if found.whole is not None:
                return Reply(found.whole, found.status, found.media_type.encode("latin-1"))
            async for piece in found.pieces:
                if not pen.begun:
                    last.append(found.media_type.encode("latin-1"))
                    await pen.begin(last[1], found.status)
                last[0] = piece
                await pen.write(piece)
            if not pen.begun:
                return Reply(b"", found.status)
            await pen.write(b"", more=False)
            return None

    @asynccontextmanager
    async def _answered(self, request: Request) -> AsyncIterator[Answered]:
        import httpx2

        headers = [(name, value) for name, value in request.headers.items() if name in PASSED]
        asked = self._opened().build_request(
            request.scope["method"],
            self.url + request.path_as_sent,
            content=await request.body(),
            headers=headers,
        )
        try:
            found = await self._opened().send(asked, stream=True)
            try:
                if 300 <= found.status_code < 400:
                    raise Refusal(502, f"the other server at {self.url} sends us elsewhere")
                yield await self._taken(found)
            finally:
                await found.aclose()
        except httpx2.TimeoutException:
            raise Refusal(504, self._words("does not answer")) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            raise Refusal(502, self._words("cannot be reached")) from None
        except (httpx2.HTTPError, httpx2.StreamError):
            raise Refusal(502, self._words("broke off its answer")) from None

    async def _taken(self, found: httpx2.Response) -> Answered:
        media_type = found.headers.get("content-type", "text/plain")
        whole = None
        if media_type.startswith(JSON) and not media_type.startswith(NDJSON):
            whole = await _bounded(found, MAX_WHOLE)
            if whole is None:
                raise Refusal(502, self._words("answers with too much"))
        return Answered(found.status_code, media_type, whole, found.aiter_raw())

    def _words(self, what: str) -> str:
        return f"the model is not installed here, and the other server at {self.url} {what}"

    def _opened(self) -> httpx2.AsyncClient:
        import httpx2

        if self._client is None:
            self._client = httpx2.AsyncClient(
                headers={HOP.decode(): "1", "accept-encoding": "identity"},
                trust_env=False,
                follow_redirects=False,
                timeout=httpx2.Timeout(self._silent, connect=CONNECT_SECONDS),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=8),
            )
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


async def _bounded(found: httpx2.Response, limit: int) -> bytes | None:
    """All of a body; None when it is larger."""
    data = bytearray()
    async for piece in found.aiter_raw():
        data += piece
        if len(data) > limit:
            return None
    return bytes(data)


def _told(last: list[bytes], error: bytes, request: Request) -> bytes:
    """An error as the last piece of a stream, which may have broken off within a line."""
    open_line = b"" if last[0].endswith(b"\n") else b"\n"
    if not last[1].startswith(EVENTS.encode()):
        return open_line + error + b"\n"
    name = b"event: error\n" if request.scope["path"] == "/v1/messages" else b""
    return open_line + b"\n" + name + b"data: " + error + b"\n\n"
