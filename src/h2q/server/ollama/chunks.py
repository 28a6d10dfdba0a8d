"""The objects of a stream from generate and chat, one line of JSON each.

A chunk's constant parts are made once; a token pays for its text and the time only.
"""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from h2q.core.events import Part, TokenEvent, Usage
from h2q.server.metrics import clock
from h2q.server.ollama.words import dumps, escape, nanoseconds, utc
from h2q.server.streaming import parts_of

if TYPE_CHECKING:
    from h2q.orchestrator.house import Lease
    from h2q.server.refusal import Refusal

_encode = msgspec.json.Encoder().encode
REASONS = {"stop": "stop", "length": "length", "context": "length"}
LETTERS = string.ascii_lowercase + string.digits


class Chunks:
    """A formatter for one answer. `chat` puts texts into a message. `top`: alternatives to tell, or
    None for no log-probabilities. `planes`: say how many take part. Subclasses of nothing: both
    endpoints differ in three strings.
    """

    media_type = b"application/x-ndjson"

    def __init__(
        self,
        model: str,
        arrived: float,
        chat: bool,
        split: bool,
        top: int | None,
        planes: bool = False,
    ) -> None:
        self._model, self._arrived, self._chat, self._split = model, arrived, chat, split
        self._top, self._calls, self._load = top, 0, 0.0
        self._planes, self._each = planes, planes or top is not None
        self._said = list[str]()
        self._head = escape(b'{"model":' + _encode(model) + b',"created_at":"')
        inner = b'"message":{"role":"assistant","content":' if chat else b'"response":'
        self._middle = b'",' + inner
        self._tail = b'},"done":false}\n' if chat else b',"done":false}\n'

    def begin(self, lease: Lease) -> bytes:
        self._load = clock() - self._arrived if lease.load_seconds else 0.0
        return b""

    def token(self, event: TokenEvent) -> bytes:
        parts = parts_of(event, self._split)
        line = b""
        if len(parts) == 1 and parts[0].kind == "content" and not self._each:
            if not self._chat:
                self._said.append(parts[0].text)
            text = escape(_encode(parts[0].text))
            line = b"".join((self._head, utc().encode(), self._middle, text, self._tail))
        elif parts or (self._each and event.token >= 0):
            line = self._rich(parts, event)
        if event.finish:
            line += dumps(self._last(event)) + b"\n"
        return line

    def _rich(self, parts: Sequence[Part], event: TokenEvent) -> bytes:
        content, reasoning, calls = told_apart(parts, self._calls)
        self._calls += len(calls)
        self._said.append(content)
        document = {
            "model": self._model,
            "created_at": utc(),
            **body(self._chat, content, reasoning, calls),
            "done": False,
        }
        if self._top is not None and event.token >= 0:
            document["logprobs"] = [logprob(event, self._top)]
        if self._planes:
            document["planes"] = event.planes
        return dumps(document) + b"\n"

    def _last(self, event: TokenEvent) -> dict[str, Any]:
        return {
            "model": self._model,
            "created_at": utc(),
            **body(self._chat, "", "", []),
            "done": True,
            "done_reason": REASONS.get(event.finish, event.finish),
            **self.context("".join(self._said)),
            **durations(self._arrived, self._load, event.usage),
        }

    def context(self, said: str) -> dict[str, Any]:
        """More fields of the last object, given all that was said."""
        return {}

    def failed(self, refusal: Refusal) -> bytes:
        return dumps({"error": refusal.message}) + b"\n"


def told_apart(parts: Sequence[Part], calls: int) -> tuple[str, str, list[dict[str, Any]]]:
    """Content, reasoning and calls, which are counted from `calls` on."""
    content = "".join(part.text for part in parts if part.kind == "content")
    reasoning = "".join(part.text for part in parts if part.kind == "reasoning")
    made = [part for part in parts if part.kind == "tool_call"]
    return content, reasoning, [_call(part, calls + i) for i, part in enumerate(made)]


def _call(part: Part, index: int) -> dict[str, Any]:
    try:
        arguments: Any = msgspec.Raw(part.text.encode()) if msgspec.json.decode(part.text) else {}
    except msgspec.MsgspecError:
        arguments = {}
    mark = "call_" + "".join(secrets.choice(LETTERS) for _ in range(8))
    return {"id": mark, "function": {"index": index, "name": part.name, "arguments": arguments}}


def body(
    chat: bool, content: str, reasoning: str, calls: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Where the texts of an object stand."""
    rest: dict[str, Any] = {"thinking": reasoning} if reasoning else {}
    if calls:
        rest["tool_calls"] = calls
    if chat:
        return {"message": {"role": "assistant", "content": content, **rest}}
    return {"response": content, **rest}


def durations(arrived: float, load: float, usage: Usage | None) -> dict[str, int]:
    """Of the last object, in nanoseconds; what is 0 is left out."""
    usage = usage or Usage(0, 0)
    fields = {
        "total_duration": nanoseconds(clock() - arrived),
        "load_duration": nanoseconds(load),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": nanoseconds(usage.prompt),
        "eval_count": usage.tokens,
        "eval_duration": nanoseconds(max(0.0, usage.total - usage.queue - usage.prompt)),
    }
    return {name: value for name, value in fields.items() if value}


def logprob(event: TokenEvent, top: int) -> dict[str, Any]:
    """One token's log-probability, and those of its alternatives."""

    def item(text: str, value: float) -> dict[str, Any]:
        return {"token": text, "logprob": value, "bytes": list(text.encode())}

    found = item(event.piece or event.text, event.logprob)
    if top:
        found["top_logprobs"] = [item(a.text, a.logprob) for a in event.alternatives[:top]]
    return found


def control_reply(model: str, chat: bool, reason: str, began: float | None = None) -> bytes:
    """The one object that answers a request to load or unload."""
    document = {"model": model, "created_at": utc(), **body(chat, "", "", []), "done": True}
    document["done_reason"] = reason
    if began is not None:
        document["total_duration"] = nanoseconds(time.perf_counter() - began)
    return dumps(document)
