"""The chunks of a streamed chat completion.

A chunk's constant parts are made once; a token pays for its text only.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from h2q.core.events import Part, TokenEvent, Usage
from h2q.server.forced_call import Parts
from h2q.server.openai.routes import error_of
from h2q.server.openai.words import (
    FINGERPRINT,
    REASONS,
    call_of,
    logprobs_of,
    mark,
    reasons,
    usage_of,
)
from h2q.server.sse import DONE, MEDIA_TYPE, data, one_line

if TYPE_CHECKING:
    from h2q.orchestrator.house import Lease
    from h2q.server.refusal import Refusal


class Head:
    """What all chunks of one response begin with. `usage`: whether counts are told."""

    def __init__(self, model: str, usage: bool) -> None:
        self.usage = usage
        self.fields: dict[str, Any] = {
            "id": mark("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }

    def chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
        """One chunk; counts are null in all but the last, where they are wanted."""
        document = {**self.fields, "choices": choices}
        if self.usage:
            document["usage"] = usage
        return data(document)


class ChatChunks:
    """A formatter for one answer of a response. `top`: alternatives to tell, None for no
    log-probabilities. `alone`: the response ends with it.
    """

    media_type = MEDIA_TYPE

    def __init__(self, head: Head, index: int, top: int | None, forced: bool, alone: bool) -> None:
        self._head, self._index, self._top, self._alone = head, index, top, alone
        self._parts, self._forced, self._calls = Parts(forced), forced, 0
        self.reasoning = 0
        before, after = self._chunk({"content": "\0"}).split(b'"\\u0000"')
        self._before, self._after = before, after

    def begin(self, lease: Lease) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def token(self, event: TokenEvent) -> bytes:
        parts = event.parts
        if len(parts) == 1 and parts[0].kind == "content" and self._quick(event):
            return self._before + one_line(parts[0].text) + self._after
        self.reasoning += event.token >= 0 and reasons(event)
        deltas = [self._delta(part) for part in self._parts.of(event)]
        found = [] if self._top is None else logprobs_of((event,), self._top)
        if found and not deltas:
            deltas = [{"content": ""}]
        told = {"content": found, "refusal": None} if found else None
        pieces = [self._chunk(delta, logprobs=told) for delta in deltas[:1]]
        pieces += [self._chunk(delta) for delta in deltas[1:]]
        if event.finish:
            pieces.append(self._end(event))
        return b"".join(pieces)

    def _quick(self, event: TokenEvent) -> bool:
        return self._top is None and not self._forced and not event.finish

    def _delta(self, part: Part) -> dict[str, Any]:
        if part.kind == "content":
            return {"content": part.text}
        if part.kind == "reasoning":
            return {"reasoning": part.text}
        self._calls += 1
        return {"tool_calls": [call_of(part, self._calls - 1)]}

    def _end(self, event: TokenEvent) -> bytes:
        reason = "tool_calls" if self._calls else REASONS.get(event.finish, event.finish)
        last = self._chunk({}, reason)
        if not self._alone:
            return last
        return last + ending(self._head, event.usage or Usage(0, 0), self.reasoning)

    def _chunk(
        self, delta: dict[str, Any], reason: str | None = None, logprobs: Any = None
    ) -> bytes:
        choice = {"index": self._index, "delta": delta, "finish_reason": reason}
        if self._top is not None:
            choice["logprobs"] = logprobs
        return self._head.chunk([choice], None)

    def failed(self, refusal: Refusal) -> bytes:
        return data({"error": error_of(refusal)}) + DONE


def ending(head: Head, usage: Usage, reasoning: int) -> bytes:
    """What follows the last answer."""
    counts = head.chunk([], usage_of(usage, reasoning)) if head.usage else b""
    return counts + DONE
