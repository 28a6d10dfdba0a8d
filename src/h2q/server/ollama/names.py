"""Which model a request means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2q.core.errors import MissingModelError, UsageError
from h2q.server.refusal import Refusal

if TYPE_CHECKING:
    from h2q.core.cards import ModelCard
    from h2q.server.request import Request

REQUIRED = "model is required"
INVALID = "invalid model name"
LOCAL, CLOUD = ":local", ":cloud"


def card_of(request: Request, name: str, empty: Refusal | None = None) -> ModelCard:
    """The installed model of that name. Raises Refusal: `empty` for no name, 400 for what is no
    name, 404 for one that is not installed.
    """
    if not name:
        raise empty or Refusal(400, REQUIRED)
    try:
        return request.house.card(plain(name))
    except MissingModelError:
        raise missing(name) from None


def plain(name: str) -> str:
    """A name without the word for where its model is to run. Raises Refusal (400)."""
    from h2q.crystal.store_names import store_name

    if name.endswith((LOCAL + CLOUD, CLOUD + LOCAL)):
        raise Refusal(400, "use either :local or :cloud, not both")
    bare = name.removesuffix(LOCAL)
    try:
        store_name(bare)
    except UsageError:
        raise Refusal(400, INVALID) from None
    return bare


def missing(name: str) -> Refusal:
    """404, as Ollama words it."""
    return Refusal(404, f"model '{name}' not found", param="model")
