"""JSON and times as Go writes them."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_TO_ESCAPE = re.compile(rb"[<>&]|\xe2\x80[\xa8\xa9]|\xc2\x85")
_ESCAPES = {
    b"<": b"\\u003c",
    b">": b"\\u003e",
    b"&": b"\\u0026",
    b"\xe2\x80\xa8": b"\\u2028",
    b"\xe2\x80\xa9": b"\\u2029",
    b"\xc2\x85": b"\\u0085",  # Go leaves it, but Python clients take it for the end of a line
}
FOREVER = datetime(2318, 1, 1, tzinfo=timezone.utc)  # Go's longest duration is 292 years


def dumps(document: Any) -> bytes:
    """Compact JSON with `<`, `>`, `&` and line ends escaped, as encoding/json does."""
    return escape(_encode(document))


def escape(text: bytes) -> bytes:
    """The same of JSON that is there already: these bytes only stand inside its strings."""
    return _TO_ESCAPE.sub(lambda found: _ESCAPES[found[0]], text)


def utc(nanoseconds: int | None = None) -> str:
    """A moment, now unless given, as RFC 3339 in UTC: up to nine digits, no zeros at the end."""
    moment = time.time_ns() if nanoseconds is None else nanoseconds
    seconds, rest = divmod(moment, 1_000_000_000)
    return f"{_whole(seconds)}{_fraction(rest)}Z"


@lru_cache(maxsize=16)
def _whole(seconds: int) -> str:
    """Many tokens come in one second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def local(seconds: float | None) -> str:
    """A moment as RFC 3339 with the offset of this place; None is for ever."""
    if seconds is None:
        return FOREVER.isoformat()
    moment = datetime.fromtimestamp(seconds).astimezone()
    offset = moment.strftime("%z")
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}{_fraction(moment.microsecond * 1000)}{zone}"


def _fraction(nanoseconds: int) -> str:
    return f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""


def nanoseconds(seconds: float) -> int:
    """A duration as Go counts it."""
    return round(seconds * 1e9)
