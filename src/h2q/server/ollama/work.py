"""What changes the store: pull, create, copy, delete, and blobs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from h2q.core.errors import MissingModelError, UsageError
from h2q.orchestrator.house import Recipe, WorkEvent
from h2q.server.connected import Pen, while_connected
from h2q.server.ollama.names import REQUIRED, card_of, missing, plain
from h2q.server.ollama.shapes import CopyRequest, CreateRequest, NameRequest, WorkRequest
from h2q.server.ollama.words import dumps
from h2q.server.refusal import Gone, Refusal, refusal_of
from h2q.server.reply import Reply

if TYPE_CHECKING:
    from h2q.server.request import Request

NDJSON = b"application/x-ndjson"
DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
NO_PUSH = "crystals cannot be pushed: an Ollama registry has no place for their files"


async def pull(request: Request) -> Reply | None:
    """Fetch and crystallize a model, telling how far it is."""
    given = await request.read(WorkRequest)
    name = _name(given)
    return await _told(request, request.house.pull(plain(name)), given.stream)


async def push(request: Request) -> Reply:
    """Never possible, and said so."""
    given = await request.read(WorkRequest)
    card_of(request, _name(given))
    raise Refusal(501, NO_PUSH)


async def create(request: Request) -> Reply | None:
    """Make a model from another, or from uploaded files."""
    given = await request.read(CreateRequest)
    name = plain(_name(given))
    if not given.from_ and not given.files:
        raise Refusal(400, "neither 'from' or 'files' was specified")
    if given.adapters:
        raise Refusal(400, "adapters are not supported; merge them into the model first")
    if given.remote_host:
        raise Refusal(400, "remote models are not made here; `h2q serve --ollama` serves them")
    recipe = Recipe(
        base=given.from_,
        files=_files(given.files),
        template=given.template,
        system=given.system,
        parameters=tuple(given.parameters.items()),
        messages=tuple((turn.role, turn.content) for turn in given.messages),
        license=(given.license,) if isinstance(given.license, str) else tuple(given.license),
        quantize=given.quantize,
    )
    return await _told(request, request.house.create(name, recipe), given.stream)


async def copy(request: Request) -> Reply:
    """A second name."""
    given = await request.read(CopyRequest)
    for text, part in ((given.source, "source"), (given.destination, "destination")):
        if not text:
            raise Refusal(400, f"{part} is required")
    source, destination = plain(given.source), plain(given.destination)
    try:
        request.house.copy(source, destination)
    except MissingModelError:
        raise Refusal(404, f'model "{given.source}" not found') from None
    return Reply()


async def delete(request: Request) -> Reply:
    """Remove a name, and what no other name needs."""
    name = _name(await request.read(NameRequest))
    try:
        await request.house.delete(plain(name))
    except MissingModelError:
        raise missing(name) from None
    return Reply()


async def has_blob(request: Request) -> Reply:
    """200 when it was uploaded, else 404."""
    if request.house.has_blob(_digest(request.arguments["digest"])):
        return Reply()
    raise Refusal(404, "blob not found")


async def add_blob(request: Request) -> Reply:
    """Take an upload: 201, or 200 when it was there already."""
    digest = _digest(request.arguments["digest"])
    if request.house.has_blob(digest):
        return Reply()
    new = await request.house.add_blob(digest, request.upload())
    return Reply(status=201 if new else 200)


def _name(given: NameRequest) -> str:
    name = given.model or given.name
    if not name:
        raise Refusal(400, REQUIRED)
    return name


def _digest(text: str) -> str:
    if not DIGEST.fullmatch(text):
        raise Refusal(400, "invalid digest format")
    return "sha256:" + text[7:].lower()


def _files(files: dict[str, str]) -> tuple[tuple[str, str], ...]:
    for name in files:
        path = PurePosixPath(name)
        plain_name = name and not path.is_absolute() and str(path) == name and ":" not in name
        if not plain_name or ".." in path.parts or "\\" in name or "\0" in name:
            raise Refusal(400, "file path must be relative")
    return tuple((name, _digest(digest)) for name, digest in files.items())


async def _told(request: Request, events: AsyncIterator[WorkEvent], streamed: bool) -> Reply | None:
    """Progress line by line, or its end alone."""
    if not streamed:
        last = await while_connected(request, _last(events))
        return Reply(dumps({"status": last.status}))
    pen = Pen(request)
    try:
        await while_connected(request, _stream(events, pen), pen)
    except Gone:
        raise
    except Exception as error:
        if not pen.begun:
            raise
        refusal = refusal_of(error, request.id)
        request.app.log.failed(request, error, refusal)
        await pen.write(dumps({"error": refusal.message}) + b"\n", more=False)
    return None


async def _stream(events: AsyncIterator[WorkEvent], pen: Pen) -> None:
    try:
        async for event in events:
            if not pen.begun:
                await pen.begin(NDJSON)
            await pen.write(dumps(_event(event)) + b"\n")
    finally:
        await _close(events)
    if not pen.begun:
        raise UsageError("There was nothing to do.")
    await pen.write(b"", more=False)


async def _last(events: AsyncIterator[WorkEvent]) -> WorkEvent:
    last = WorkEvent("success")
    try:
        async for event in events:
            last = event
    finally:
        await _close(events)
    return last


async def _close(events: Any) -> None:
    if hasattr(events, "aclose"):
        await events.aclose()


def _event(event: WorkEvent) -> dict[str, Any]:
    document: dict[str, Any] = {"status": event.status}
    if event.digest:
        document["digest"] = event.digest
    if event.total:
        document["total"] = event.total
    if event.done:
        document["completed"] = event.done
    return document
