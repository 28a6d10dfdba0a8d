"""`/openapi.json` and `/docs`: the interface as FastAPI describes it from routes and their models.

FastAPI takes longer to import than a server may take to listen, so it loads when it is asked.
"""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from h2q.server.dialect import Dialect, Route, load
from h2q.server.reply import Reply, json_reply

if TYPE_CHECKING:
    from h2q.server.request import Request

HTML = b"text/html; charset=utf-8"


async def openapi(request: Request) -> Reply:
    return json_reply(await asyncio.to_thread(document, request.app.dialects))


async def page(request: Request) -> Reply:
    from h2q.server.documents_page import render

    described = await asyncio.to_thread(document, request.app.dialects)
    return Reply(render(described).encode(), media_type=HTML)


@lru_cache(maxsize=4)
def document(dialects: tuple[Dialect, ...]) -> dict[str, Any]:
    """The OpenAPI document of all routes."""
    from fastapi import FastAPI

    import h2q

    described = FastAPI(title="H2Q-Evo", version=h2q.__version__, docs_url=None, redoc_url=None)
    seen = set[tuple[str, str]]()
    for dialect in dialects:
        for route in dialect.routes():
            if (route.method, route.path) not in seen:
                seen.add((route.method, route.path))
                _describe(described, dialect, route)
    return described.openapi()


def _describe(described: Any, dialect: Dialect, route: Route) -> None:
    """A route whose function is never called: FastAPI reads its types only."""
    names = re.findall(r"\{(\w+)", route.path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    extra: dict[str, Any] = {"parameters": parameters} if parameters else {}
    content: dict[int | str, dict[str, Any]] = {}
    if route.streams:
        content[200] = {"content": {route.streams: {}}}

    described.add_api_route(
        re.sub(r":path\}", "}", route.path),
        _taking(load(route.takes)) if route.takes else _nothing,
        methods=[route.method],
        summary=route.summary,
        tags=[dialect.name],
        response_model=load(route.gives) if route.gives else None,
        responses=content,
        openapi_extra=extra or None,
        operation_id=re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
    )


async def _nothing() -> None: ...


def _taking(shape: Any) -> Any:
    async def takes(body: Any) -> None: ...

    takes.__annotations__ = {"body": shape, "return": None}
    return takes
