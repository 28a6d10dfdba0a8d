"""Server-sent events as OpenAI and Anthropic frame them.

Clients split what they read into lines, some of them (Python's `str.splitlines`) at three letters
that JSON leaves as they are; here they are escaped.
"""

from __future__ import annotations

import re
from typing import Any

from h2q.server.reply import encode

MEDIA_TYPE = b"text/event-stream; charset=utf-8"
STREAM = "text/event-stream"  # in the documentation
DONE = b"data: [DONE]\n\n"
_LINE_ENDS = re.compile(rb"\xe2\x80[\xa8\xa9]|\xc2\x85")
_ESCAPES = {
    b"\xe2\x80\xa8": b"\\u2028",
    b"\xe2\x80\xa9": b"\\u2029",
    b"\xc2\x85": b"\\u0085",
}


def data(document: Any) -> bytes:
    """An event without a name."""
    return b"data: " + one_line(document) + b"\n\n"


def event(name: str, document: Any) -> bytes:
    """An event with a name."""
    return b"event: " + name.encode() + b"\ndata: " + one_line(document) + b"\n\n"


def one_line(document: Any) -> bytes:
    """JSON that is one line by anybody's count."""
    return _LINE_ENDS.sub(lambda found: _ESCAPES[found[0]], encode(document))
