"""A whole answer: status, bytes, type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

JSON = b"application/json; charset=utf-8"
TEXT = b"text/plain; charset=utf-8"
Headers = tuple[tuple[bytes, bytes], ...]
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Reply:
    """What goes back at once."""

    body: bytes = b""
    status: int = 200
    media_type: bytes = JSON
    headers: Headers = ()

    def start(self) -> dict[str, Any]:
        """The ASGI message that opens it."""
        length = () if self.status == 204 else ((b"content-length", b"%d" % len(self.body)),)
        typed = ((b"content-type", self.media_type),) if self.body or self.status == 200 else ()
        return {
            "type": "http.response.start",
            "status": self.status,
            "headers": [*typed, *length, *self.headers],
        }


def json_reply(document: Any, status: int = 200, headers: Headers = ()) -> Reply:
    """Plain data (dataclasses and msgspec structs too) as compact JSON."""
    return Reply(encode(document), status, JSON, headers)


def text_reply(text: str, status: int = 200, headers: Headers = ()) -> Reply:
    """A line for a person."""
    return Reply(text.encode(), status, TEXT, headers)
