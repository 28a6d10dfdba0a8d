"""The server as an ASGI application: manners around a router around dialects."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from h2q.server.dialect import Dialect, load
from h2q.server.gate import Gate
from h2q.server.health import House
from h2q.server.history import History
from h2q.server.limits import MAX_PATH, ServerSettings
from h2q.server.log import Log
from h2q.server.manners import HostCheck, Keys, Origins
from h2q.server.metrics import Metrics, clock
from h2q.server.refusal import Gone, Refusal, refusal_of
from h2q.server.reply import Reply, text_reply
from h2q.server.request import Request
from h2q.server.router import Match, Router

if TYPE_CHECKING:
    from h2q.orchestrator.house import Orchestrator
    from h2q.server.bridge import OllamaBridge

DIALECTS = (
    "h2q.server.ollama.routes:Ollama",
    "h2q.server.openai.routes:OpenAI",
    "h2q.server.anthropic.routes:Anthropic",
)


class App:
    """One house and its dialects; `metrics`, `gate` and `log` are shared by all requests."""

    def __init__(
        self,
        house: Orchestrator,
        settings: ServerSettings,
        dialects: Sequence[Dialect],
        log: Log | None = None,
        bridge: OllamaBridge | None = None,
    ) -> None:
        self.house, self.settings, self.log = house, settings, log or Log()
        self.bridge = bridge
        self.metrics, self.gate = Metrics(), Gate(settings.limits)
        house.listen(self.metrics.hear)
        self.history, self.began = History(), clock()
        self.dialects = (House(), *dialects)
        self.router = Router(self.dialects)
        guarded = Keys(self._answer, settings.keys, self._is_open, self._refuse)
        origins = Origins(guarded, settings.origins, self._refuse)
        self._inner = HostCheck(origins, settings.loopback)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        scope["h2q.arrived"], scope["h2q.id"] = clock(), secrets.token_hex(8)
        scope["h2q.client"] = (scope.get("client") or ("",))[0]
        status = 0
        mark = scope["h2q.id"].encode()
        marks = ((b"x-request-id", mark), (b"request-id", b"req_" + mark))  # as Anthropic has it

        async def send_with_id(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *marks]
            await send(message)

        try:
            await self._inner(scope, receive, send_with_id)
        finally:
            seconds = clock() - scope["h2q.arrived"]
            self.log.request(scope, status, seconds, scope.get("h2q.model", ""))

    async def _answer(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        match = self._match(scope)
        if not isinstance(match, Match):
            await _send(scope, send, match)
            return
        request = Request(self, scope, receive, send)
        request.arguments = match.arguments
        try:
            if self.bridge is not None:
                reply = await self.bridge.answer(request, match)
            else:
                reply = await load(match.route.handler)(request)
        except Gone:
            return
        except Exception as error:
            refusal = refusal_of(error, request.id)
            if refusal.status >= 500:
                self.log.failed(request, error, refusal)
            reply = match.dialect.error(refusal)
        finally:
            scope["h2q.model"] = request.model
        if reply is not None:
            await _send(scope, send, reply)

    def _match(self, scope: dict[str, Any]) -> Match | Reply:
        path = scope["path"]
        match = self.router.find(scope["method"], path) if len(path) <= MAX_PATH else frozenset()
        if isinstance(match, Match):
            return match
        if not match:
            return text_reply("404 page not found", 404)
        allow = (b"allow", ", ".join(sorted(match)).encode())
        return text_reply("405 method not allowed", 405, (allow,))

    def _is_open(self, method: str, path: str) -> bool:
        match = self.router.find(method, path)
        return isinstance(match, Match) and match.route.open

    async def _refuse(self, scope: dict[str, Any], send: Any, status: int, words: str) -> None:
        """No to a request that no dialect has seen, in the words of whose path it is."""
        match = self.router.find(scope["method"], scope["path"])
        dialect = match.dialect if isinstance(match, Match) else self.dialects[0]
        refusal = refusal_of(Refusal(status, words), scope["h2q.id"])
        await _send(scope, send, dialect.error(refusal))


async def _send(scope: dict[str, Any], send: Any, reply: Reply) -> None:
    await send(reply.start())
    body = b"" if scope["method"] == "HEAD" else reply.body
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def create_app(
    house: Orchestrator,
    settings: ServerSettings | None = None,
    dialects: Sequence[Dialect] | None = None,
    log: Log | None = None,
    bridge: OllamaBridge | None = None,
) -> App:
    """The server over a house, in all dialects unless some are named; `bridge`: to models that are
    elsewhere.
    """
    spoken = [load(place)() for place in DIALECTS] if dialects is None else dialects
    return App(house, settings or ServerSettings(), spoken, log, bridge)
