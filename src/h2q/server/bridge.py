"""The bridge to a running Ollama: its models are there too, until they are crystals of ours.

A request for a model that is not installed is passed on unchanged. If wished, the model is grown
from Ollama's own store in the background; when it holds the quality that crystals are grown for,
it is installed under its name, and from then on the name means the crystal.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from h2q.core.errors import H2QError, MissingModelError
from h2q.server.dialect import load
from h2q.server.elsewhere import HOP, Elsewhere
from h2q.server.refusal import Refusal, refusal_of
from h2q.server.reply import Reply, encode

if TYPE_CHECKING:
    from h2q.server.app import App
    from h2q.server.request import Request
    from h2q.server.router import Match

# Lists that both servers have, and what in them holds the models and their names.
LISTS = {
    "/api/tags": ("models", "name"),
    "/api/ps": ("models", "name"),
    "/v1/models": ("data", "id"),
}
PASSED_ON = frozenset(
    {
        "/api/generate",
        "/api/chat",
        "/api/embed",
        "/api/embeddings",
        "/api/show",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/models/{model:path}",
        "/v1/models/{model}",
    }
)
AGAIN_SECONDS = 3600.0  # after which a model that could not be grown is tried once more


@dataclass
class Growth:
    """A model on its way to a crystal: the last step told, `done` of `total`; `error` why not."""

    status: str = "waiting"
    done: int = 0
    total: int = 0
    error: str = ""
    ended: float = 0.0


class OllamaBridge:
    """url: of the other server, like http://127.0.0.1:11434. crystallize: grow what is asked for.
    silent_seconds: the other server may say nothing for so long. Raises UsageError for another
    address.
    """

    def __init__(self, url: str, crystallize: bool = False, silent_seconds: float = 300.0) -> None:
        from h2q.server.address import upstream

        self.elsewhere = Elsewhere(upstream(url), silent_seconds)
        self.crystallize = crystallize
        self.growths: dict[str, Growth] = {}
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return self.elsewhere.url

    async def answer(self, request: Request, match: Match) -> Reply | None:
        """A request's answer: ours, or theirs where the model is not here."""
        handler = load(match.route.handler)
        hopped = HOP in request.headers
        if match.route.method == "GET" and match.route.path in LISTS and not hopped:
            return await self._listed(match.route.path, await handler(request))
        try:
            reply: Reply | None = await handler(request)
            return reply
        except (H2QError, Refusal) as error:
            if match.route.path not in PASSED_ON or hopped or not _absent(error):
                raise
        name = await _name(request)
        if not name:
            raise Refusal(400, "model is required", param="model")
        request.model = f"{name} at {self.url}"[:200]
        if self.crystallize:
            self._grow(request.app, name)
        return await self.elsewhere.forward(request, match.dialect)

    async def _listed(self, path: str, reply: Reply) -> Reply:
        """Our list and then theirs, without what has the same name."""
        theirs = await self.elsewhere.get(path)
        field, key = LISTS[path]
        items = theirs.get(field) if isinstance(theirs, dict) else None
        if reply.status != 200 or not isinstance(items, list):
            return reply
        document = msgspec.json.decode(reply.body)
        known = {str(item[key]).lower() for item in document[field]}
        for item in items:
            name = item.get(key) if isinstance(item, dict) else None
            if isinstance(name, str) and name.lower() not in known:
                document[field].append({**item, "remote_host": self.url})
        return Reply(encode(document), 200, reply.media_type, reply.headers)

    def _grow(self, app: App, name: str) -> None:
        """Begin, unless it has begun or failed not long ago."""
        known = self.growths.get(name)
        if known is not None and not (known.error and time.monotonic() > known.ended):
            return
        growth = self.growths[name] = Growth()
        task = asyncio.ensure_future(self._growing(app, name, growth))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _growing(self, app: App, name: str, growth: Growth) -> None:
        from h2q.orchestrator.house import Recipe

        async with self._turn:  # one at a time: it takes the machine's memory
            app.log.write("crystallizing", model=name)
            events: Any = app.house.create(name, Recipe(base=f"ollama:{name}"))
            try:
                async for event in events:
                    growth.status, growth.done, growth.total = (
                        event.status,
                        event.done,
                        event.total,
                    )
                app.log.write("crystallized", model=name)
            except Exception as error:
                growth.error = refusal_of(error).message
                growth.ended = time.monotonic() + AGAIN_SECONDS
                app.log.write("not crystallized", model=name, message=growth.error)
            finally:
                with contextlib.suppress(AttributeError):
                    await events.aclose()

    async def close(self) -> None:
        """Stop growing (what was done is kept), and let go of the other server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.elsewhere.close()


def _absent(error: Exception) -> bool:
    """Whether it says that a model is not installed."""
    if isinstance(error, Refusal):
        return error.status == 404 and error.param == "model"
    return isinstance(error, MissingModelError)


async def _name(request: Request) -> str:
    """The model that is asked for, without Ollama's word for where it is to run."""
    if name := request.arguments.get("model"):
        return name
    document = await request.document()
    if not isinstance(document, dict):
        return ""
    name = document.get("model") or document.get("name")
    return name.removesuffix(":local")[:400] if isinstance(name, str) else ""
