"""What a dialect is: routes, and how it words an error.

A dialect maps bodies to asks and token events to its wire; it adds no behaviour of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from h2q.server.refusal import Refusal
    from h2q.server.reply import Reply
    from h2q.server.request import Request

Handler = Callable[["Request"], Awaitable["Reply | None"]]


@dataclass(frozen=True)
class Route:
    """One endpoint. `path` may hold `{name}` for a segment and end in `{name:path}` for the rest.

    `handler`, `takes`, `gives` are places as `package.module:name`, loaded on first use, so that
    listening does not wait for them: a coroutine function that returns a Reply, or None when it
    has sent its answer itself, and the pydantic models of the bodies, for the documentation.
    `streams`: the media type of an answer in pieces, each of which is as `pieces` says. `text`: the
    media type of an answer that is not JSON. `upload`: the body is bytes. `open`: needs no API key.
    """

    method: str
    path: str
    handler: str
    summary: str
    takes: str = ""
    gives: str = ""
    streams: str = ""
    pieces: str = ""
    text: str = ""
    upload: bool = False
    open: bool = False


class Dialect(Protocol):
    """A manner of speaking HTTP. `name` is shown in logs and in the documentation. `refuses`: the
    place of the model of its errors.
    """

    name: str
    refuses: str

    def routes(self) -> Sequence[Route]:
        """All endpoints, in one list."""
        ...

    def error(self, refusal: Refusal) -> Reply:
        """How it tells that a request is not fulfilled."""
        ...


@cache
def load(place: str) -> Any:
    """What a place names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
