"""Server-sent events as OpenAI and Anthropic frame them."""

from __future__ import annotations

from typing import Any

from h2q.server.reply import encode

MEDIA_TYPE = b"text/event-stream; charset=utf-8"
STREAM = "text/event-stream"  # in the documentation
DONE = b"data: [DONE]\n\n"


def data(document: Any) -> bytes:
    """An event without a name."""
    return b"data: " + encode(document) + b"\n\n"


def event(name: str, document: Any) -> bytes:
    """An event with a name."""
    return b"event: " + name.encode() + b"\ndata: " + encode(document) + b"\n\n"
