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
SCHEMAS = "#/components/schemas/"


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
    made: dict[str, Any] = described.openapi()
    for operation in (one for path in made["paths"].values() for one in path.values()):
        answers = operation["responses"]
        answers.pop("422", None)  # bodies are read by us, with other words
        refused = answers["default"]["content"]
        answers["default"]["content"] = {"application/json": next(iter(refused.values()))}
    schemas = made["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name, schema in _pieces(dialects).items():
        schemas.setdefault(name, schema)
    return made


def _pieces(dialects: tuple[Dialect, ...]) -> dict[str, Any]:
    """Schemas of what streams are made of: nothing else in the document would bring them."""
    from pydantic.json_schema import models_json_schema

    places = {route.pieces for dialect in dialects for route in dialect.routes() if route.pieces}
    models = [(load(place), "serialization") for place in sorted(places)]
    _, made = models_json_schema(models, ref_template=f"{SCHEMAS}{{model}}")  # type: ignore[arg-type]
    return dict(made.get("$defs", {}))


def _describe(described: Any, dialect: Dialect, route: Route) -> None:
    """A route whose function is never called: FastAPI reads its types only."""
    from fastapi import Response
    from fastapi.responses import JSONResponse

    gives = load(route.gives) if route.gives else None
    kind = type("Kind", (Response,), {"media_type": route.text or None})
    described.add_api_route(
        re.sub(r":path\}", "}", route.path),
        _taking(load(route.takes)) if route.takes else _nothing,
        methods=[route.method],
        summary=route.summary,
        tags=[dialect.name],
        response_model=gives,
        response_class=JSONResponse if gives else kind,
        responses=_answers(dialect, route),
        openapi_extra=_extra(route),
        operation_id=re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
    )


def _answers(dialect: Dialect, route: Route) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {
        "default": {"description": "Why not", "model": load(dialect.refuses)}
    }
    if route.streams:
        each = {"$ref": SCHEMAS + route.pieces.rpartition(":")[2]}
        # OpenAPI 3.1 has no word for the pieces of a stream; 3.2 calls this itemSchema.
        stream = {"schema": {"type": "string"}, "x-item-schema": each}
        found[200] = {"content": {route.streams: stream}}
    if route.upload:
        found[201] = {"description": "It is new here"}
    return found


def _extra(route: Route) -> dict[str, Any] | None:
    extra: dict[str, Any] = {}
    if names := re.findall(r"\{(\w+)", route.path):
        text = {"type": "string"}
        extra["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": text} for name in names
        ]
    if route.upload:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        extra["requestBody"] = {"required": True, "content": content}
    return extra or None


async def _nothing() -> None: ...


def _taking(shape: Any) -> Any:
    async def takes(body: Any) -> None: ...

    takes.__annotations__ = {"body": shape, "return": None}
    return takes
