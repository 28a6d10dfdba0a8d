"""Bodies: bytes of a request within limits of size and time, and the JSON in them within limits of
depth and count. Nobody asks what content type they claim to be.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from h2q.server.limits import MAX_DEPTH, MAX_VALUES, Limits
from h2q.server.refusal import Gone, Refusal

Receive = Callable[[], Awaitable[dict[str, Any]]]

CLOSE = ((b"connection", b"close"),)
MISSING = "missing request body"
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_decode = msgspec.json.Decoder().decode


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limits: Limits) -> bytes:
    """The whole body. Raises Refusal for one too large (413), too slow (408) or packed (415), Gone
    when the client leaves.
    """
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(415, "packed request bodies are not accepted", headers=CLOSE)
    pieces, size = list[bytes](), 0
    _check_length(headers, limits.body)
    try:
        async with _deadline(limits.body_seconds):
            async for piece in _pieces(receive):
                size += len(piece)
                if size > limits.body:
                    raise _too_large(limits.body)
                pieces.append(piece)
    except asyncio.TimeoutError:
        raise Refusal(
            408, f"the request body took more than {limits.body_seconds:g} s", headers=CLOSE
        ) from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def upload(
    receive: Receive, headers: Mapping[bytes, bytes], limits: Limits
) -> AsyncIterator[bytes]:
    """A body piece by piece, of any size up to the limit of uploads; it may be slow but not pause
    for long.
    """
    _check_length(headers, limits.upload)
    size, pieces = 0, _pieces(receive)
    while True:
        try:
            piece = await asyncio.wait_for(pieces.__anext__(), limits.idle_seconds)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise Refusal(408, "the upload paused for too long", headers=CLOSE) from None
        size += len(piece)
        if size > limits.upload:
            raise _too_large(limits.upload)
        yield piece


def parse_json(data: bytes) -> Any:
    """The document in a body. Raises Refusal (400) when there is none, it is not JSON, or it is
    deeper or has more values than any request needs.
    """
    if not data.strip():
        raise Refusal(400, MISSING)
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_VALUES:
        bare = _STRINGS.sub(b"", data)
        if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > MAX_VALUES:
            raise Refusal(400, f"the request has more than {MAX_VALUES} JSON values")
    try:
        document = _decode(data)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if not _SURROGATE.search(data):
            raise _not_json(error) from None
        document = _with_lone_surrogates(data)
    _check_depth(document)
    return document


def _with_lone_surrogates(data: bytes) -> Any:
    """Half an emoji, as cutting a JavaScript string leaves it, becomes a question mark."""
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
        return _decode(text.encode("utf-8", "replace"))
    except RecursionError:
        raise _too_deep() from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise _not_json(error) from None


def _not_json(error: Exception) -> Refusal:
    return Refusal(400, f"invalid JSON: {str(error).removeprefix('JSON is malformed: ')}")


def _check_depth(document: Any) -> None:
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        below: list[Any] = []
        for value in level:
            if type(value) is dict:
                below.extend(v for v in value.values() if type(v) is dict or type(v) is list)
            elif type(value) is list:
                below.extend(v for v in value if type(v) is dict or type(v) is list)
        level = below


def _too_deep() -> Refusal:
    return Refusal(400, f"the request's JSON is nested more than {MAX_DEPTH} deep")


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"the request body is larger than {limit} bytes", headers=CLOSE)


def _check_length(headers: Mapping[bytes, bytes], limit: int) -> None:
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length[:20]) > limit:
        raise _too_large(limit)


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        if piece := message.get("body", b""):
            yield piece
        if not message.get("more_body", False):
            return


class _deadline:  # noqa: N801 - reads as a verb; asyncio.timeout came with Python 3.11
    """Cancels its block after some seconds and says TimeoutError."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._late = seconds, False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire, task)

    def _expire(self, task: asyncio.Task[Any]) -> None:
        self._late = True
        task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._late and kind is asyncio.CancelledError:
            task = asyncio.current_task()
            if hasattr(task, "uncancel"):
                task.uncancel()  # type: ignore[union-attr]
            raise asyncio.TimeoutError
