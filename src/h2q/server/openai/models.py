"""GET /v1/models and /v1/models/{model}."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2q.server.dialogue import card_of
from h2q.server.reply import Reply, json_reply

if TYPE_CHECKING:
    from h2q.core.cards import ModelCard
    from h2q.server.request import Request

OWNER = "library"  # of names without a namespace


async def models(request: Request) -> Reply:
    """Installed models, the newest first."""
    cards = sorted(request.house.models(), key=lambda card: -card.modified)
    return json_reply({"object": "list", "data": [_item(card) for card in cards]})


async def model(request: Request) -> Reply:
    """One installed model."""
    return json_reply(_item(card_of(request, request.arguments["model"])))


def _item(card: ModelCard) -> dict[str, Any]:
    path = card.name.split("/")
    return {
        "id": card.name,
        "object": "model",
        "created": int(card.modified),
        "owned_by": path[-2] if len(path) > 1 else OWNER,
    }
