"""One request as handlers see it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from h2q.server.body import parse_json, read_body, upload
from h2q.server.leaving import stays

if TYPE_CHECKING:
    from h2q.orchestrator.house import Orchestrator
    from h2q.server.app import App
    from h2q.server.limits import ServerSettings
    from h2q.server.wire import Wire

    Shape = TypeVar("Shape", bound=Wire)


class Request:
    """The parts of an ASGI call, and what the server knows of it. `id` is in the log and in every
    answer's headers, `arrived` on the clock of time.perf_counter, `client` tells who asks, `left`
    whether it has closed its side.
    """

    def __init__(self, app: App, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.app, self.scope, self.receive, self.send = app, scope, receive, send
        self.arrived: float = scope.get("h2q.arrived") or time.perf_counter()
        self.id: str = scope.get("h2q.id", "")
        self.client: str = scope.get("h2q.client", "")
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.arguments: dict[str, str] = {}
        self.model = ""  # for the log
        self.left: Callable[[], bool] = scope.get("h2q.left", stays)
        self._body: bytes | None = None

    @property
    def house(self) -> Orchestrator:
        return self.app.house

    @property
    def settings(self) -> ServerSettings:
        return self.app.settings

    async def body(self) -> bytes:
        """All of it, also when it is asked for again. Raises Refusal."""
        if self._body is None:
            self._body = await read_body(self.receive, self.headers, self.settings.limits)
        return self._body

    @property
    def path_as_sent(self) -> str:
        """The path with its escapes, and the query."""
        path: bytes = self.scope.get("raw_path") or self.scope["path"].encode()
        query: bytes = self.scope.get("query_string", b"")
        return (path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")

    def upload(self) -> AsyncIterator[bytes]:
        """It piece by piece, of any size."""
        return upload(self.receive, self.headers, self.settings.limits)

    async def document(self) -> Any:
        """The JSON in it. Raises Refusal."""
        return parse_json(await self.body())

    async def read(self, shape: type[Shape]) -> Shape:
        """The JSON in it, as its shape. Raises Refusal."""
        from h2q.server.wire import checked

        return checked(shape, await self.document())

    async def gone(self) -> None:
        """Return when the client has left; only after the body was read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
