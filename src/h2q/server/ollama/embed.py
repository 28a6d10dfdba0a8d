"""POST /api/embed and the older POST /api/embeddings."""

from __future__ import annotations

import array
import math
import sys
from typing import TYPE_CHECKING, Any

from h2q.core.asks import EmbedAsk, Embeddings
from h2q.core.errors import MissingModelError, UsageError
from h2q.server.connected import while_connected
from h2q.server.embedding import embedded_in_turns
from h2q.server.metrics import clock
from h2q.server.ollama.keep_alive import keep_alive
from h2q.server.ollama.names import card_of, missing, plain
from h2q.server.ollama.options import choose
from h2q.server.ollama.shapes import EmbeddingsRequest, EmbedRequest
from h2q.server.ollama.words import dumps, nanoseconds
from h2q.server.refusal import Refusal
from h2q.server.reply import Reply

if TYPE_CHECKING:
    from h2q.server.request import Request


TOO_LONG = "the input length exceeds the context length"


async def embed(request: Request) -> Reply:
    """Vectors of length 1 for one text or many, in their order."""
    given = await request.read(EmbedRequest)
    card = card_of(request, given.model, missing(""))
    texts = _texts(given.input)
    if given.dimensions < 0:
        raise Refusal(400, "dimensions must not be negative")
    context = choose(card, given.options, 0).context
    ask = EmbedAsk(texts, given.truncate, True, context)
    try:
        found, load = await embedded(request, given.model, ask, given.keep_alive)
    except UsageError as error:
        if error.where == "prompt":
            raise Refusal(400, TOO_LONG) from None
        raise
    document = {
        "model": given.model,
        "embeddings": [cut(row, given.dimensions) for row in rows(found)],
        "total_duration": nanoseconds(clock() - request.arrived),
    }
    if load:
        document["load_duration"] = nanoseconds(load)
    if found.tokens:
        document["prompt_eval_count"] = found.tokens
    return Reply(dumps(document))


async def embeddings(request: Request) -> Reply:
    """One vector as the model made it."""
    given = await request.read(EmbeddingsRequest)
    card = card_of(request, given.model)
    context = choose(card, given.options, 0).context
    texts = (given.prompt,) if given.prompt else ()
    ask = EmbedAsk(texts, normalize=False, context=context)
    found, _ = await embedded(request, given.model, ask, given.keep_alive)
    return Reply(dumps({"embedding": rows(found)[0] if texts else []}))


async def embedded(
    request: Request, model: str, ask: EmbedAsk, stay: Any
) -> tuple[Embeddings, float]:
    """The vectors, and the seconds waited for the model; without texts it is only loaded."""
    seconds = keep_alive(stay)

    async def work() -> tuple[Embeddings, float]:
        with request.app.gate.enter(request.client):
            async with request.house.lease(plain(model), seconds) as lease:
                request.model = lease.card.name
                if not ask.texts:
                    return Embeddings(b"", 0, 0), lease.load_seconds
                return await embedded_in_turns(lease.worker, ask), lease.load_seconds

    try:
        return await while_connected(request, work())
    except MissingModelError:
        raise missing(model) from None


def _texts(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if value is None or value == "":
        return ()
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "invalid input type", param="input")
    return tuple(texts)


def rows(found: Embeddings) -> list[list[float]]:
    """The vectors as lists."""
    values = array.array("f", found.vectors)
    if sys.byteorder == "big":
        values.byteswap()
    flat, width = values.tolist(), found.width
    return [flat[place : place + width] for place in range(0, len(flat), width)] if width else []


def cut(row: list[float], dimensions: int) -> list[float]:
    """The first so many numbers, of length 1 again."""
    if not 0 < dimensions < len(row):
        return row
    row = row[:dimensions]
    length = math.sqrt(sum(value * value for value in row))
    return [value / length for value in row] if length else row
