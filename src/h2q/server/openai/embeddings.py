"""POST /v1/embeddings."""

from __future__ import annotations

import array
import base64
import math
import sys
from typing import TYPE_CHECKING, Any

from h2q.core.asks import EmbedAsk, Embeddings
from h2q.server.connected import while_connected
from h2q.server.dialogue import card_of
from h2q.server.embedding import embedded_in_turns
from h2q.server.openai.shapes import EmbeddingRequest
from h2q.server.openai.turns import wrong
from h2q.server.reply import Reply, json_reply

if TYPE_CHECKING:
    from h2q.server.request import Request

MAX_TEXTS = 2048  # as OpenAI has it
FORMATS = ("float", "base64")


async def embeddings(request: Request) -> Reply:
    """Vectors of length 1 for one text or many, in their order."""
    given = await request.read(EmbeddingRequest)
    card = card_of(request, given.model)
    texts = _texts(given.input)
    if given.encoding_format not in FORMATS:
        wrong("encoding_format", f"must be one of {', '.join(FORMATS)}")
    if given.dimensions is not None and given.dimensions < 1:
        wrong("dimensions", "must be 1 or more")

    async def work() -> Embeddings:
        with request.app.gate.enter(request.client):
            async with request.house.lease(given.model) as lease:
                request.model = card.name
                return await embedded_in_turns(lease.worker, EmbedAsk(texts))

    found = await while_connected(request, work())
    packed = given.encoding_format == "base64"
    rows = [
        {"object": "embedding", "index": index, "embedding": _packed(row) if packed else list(row)}
        for index, row in enumerate(vectors(found, given.dimensions))
    ]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return json_reply({"object": "list", "data": rows, "model": given.model, "usage": usage})


def _texts(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        wrong("input", "must be a text or a list of texts")
    if len(texts) > MAX_TEXTS:
        wrong("input", f"has more than {MAX_TEXTS} texts")
    for number, text in enumerate(texts):
        if isinstance(text, (int, list)):
            wrong("input", "must be text; token ids of another model mean nothing here")
        if not isinstance(text, str):
            wrong(f"input[{number}]", "must be a string")
        if not text:
            wrong(f"input[{number}]", "is empty")
    return tuple(texts)


def vectors(found: Embeddings, dimensions: int | None) -> list[array.array[float]]:
    """Rows of float32; the first `dimensions` of each, of length 1 again, where fewer are
    wanted.
    """
    values = array.array("f", found.vectors)
    if sys.byteorder == "big":
        values.byteswap()
    width = found.width
    rows = [values[place : place + width] for place in range(0, len(values), width or 1)]
    if dimensions is None or dimensions >= width:
        return rows
    return [_normal(row[:dimensions]) for row in rows]


def _normal(row: array.array[float]) -> array.array[float]:
    length = math.sqrt(sum(value * value for value in row))
    return array.array("f", [value / length for value in row]) if length else row


def _packed(row: array.array[float]) -> str:
    if sys.byteorder == "big":
        row = row[:]
        row.byteswap()
    return base64.b64encode(row.tobytes()).decode()
