"""The files of the dashboard, as they are."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from h2q.server.refusal import Refusal
from h2q.server.reply import Reply

if TYPE_CHECKING:
    from h2q.server.request import Request

FILES = {
    "": ("index.html", b"text/html; charset=utf-8"),
    "style.css": ("style.css", b"text/css; charset=utf-8"),
    "main.js": ("main.js", b"text/javascript; charset=utf-8"),
    "draw.js": ("draw.js", b"text/javascript; charset=utf-8"),
    "play.js": ("play.js", b"text/javascript; charset=utf-8"),
}
SAFE = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


async def page(request: Request) -> Reply:
    """The page itself, or one of the files it names; nothing else is there."""
    known = FILES.get(request.arguments.get("asset", ""))
    if known is None:
        raise Refusal(404, "the dashboard has no such file")
    return Reply(_read(known[0]), 200, known[1], SAFE)


@lru_cache(maxsize=len(FILES))
def _read(name: str) -> bytes:
    return Path(__file__).with_name(name).read_bytes()
