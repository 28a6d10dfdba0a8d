"""The events of a streamed message: blocks of thinking, text and calls, one after the other."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from h2q.core.asks import Ask
from h2q.core.events import Part, TokenEvent, Usage
from h2q.server.anthropic.routes import error_of
from h2q.server.forced_call import Parts
from h2q.server.sse import MEDIA_TYPE, event

if TYPE_CHECKING:
    from h2q.orchestrator.house import Lease
    from h2q.server.refusal import Refusal

LETTERS_PER_TOKEN = 4  # a guess, told until the tokens were counted
BLOCKS: dict[str, dict[str, Any]] = {
    "reasoning": {"type": "thinking", "thinking": "", "signature": ""},
    "content": {"type": "text", "text": ""},
}
DELTAS = {"reasoning": ("thinking_delta", "thinking"), "content": ("text_delta", "text")}


class MessageEvents:
    """A formatter for one message."""

    media_type = MEDIA_TYPE

    def __init__(self, model: str, ask: Ask, forced: bool) -> None:
        self._model, self._ask, self._parts = model, ask, Parts(forced)
        self._index, self._open, self._called = 0, "", False

    def begin(self, lease: Lease) -> bytes:
        letters = sum(len(turn.content) for turn in self._ask.messages or ())
        usage = {"input_tokens": max(1, letters // LETTERS_PER_TOKEN), "output_tokens": 0}
        message: dict[str, Any] = {
            "id": mark("msg_"),
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        return _event("message_start", message=message)

    def token(self, told: TokenEvent) -> bytes:
        pieces = [self._say(part) for part in self._parts.of(told)]
        if told.finish:
            pieces.append(self._close())
            pieces.append(self._end(told))
        return b"".join(pieces)

    def failed(self, refusal: Refusal) -> bytes:
        return event("error", error_of(refusal))

    def _say(self, part: Part) -> bytes:
        if part.kind == "tool_call":
            return self._close() + self._call(part)
        opening = b""
        if self._open != part.kind:
            opening = self._close() + self._begin(part.kind, BLOCKS[part.kind])
        kind, field = DELTAS[part.kind]
        return opening + self._delta({"type": kind, field: part.text})

    def _call(self, part: Part) -> bytes:
        self._called = True
        block = {"type": "tool_use", "id": mark("toolu_"), "name": part.name, "input": {}}
        said = self._begin("tool_call", block)
        said += self._delta({"type": "input_json_delta", "partial_json": part.text})
        return said + self._close()

    def _begin(self, kind: str, block: dict[str, Any]) -> bytes:
        self._open = kind
        return _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> bytes:
        """End the open block, if there is one."""
        if not self._open:
            return b""
        said = b""
        if self._open == "reasoning":
            said = self._delta({"type": "signature_delta", "signature": ""})
        said += _event("content_block_stop", index=self._index)
        self._open = ""
        self._index += 1
        return said

    def _end(self, told: TokenEvent) -> bytes:
        usage = told.usage or Usage(0, 0)
        delta = stopped(told.finish, usage, self._called)
        said = _event("message_delta", delta=delta, usage=counted(usage))
        return said + _event("message_stop")


def _event(name: str, **fields: Any) -> bytes:
    return event(name, {"type": name, **fields})


def stopped(finish: str, usage: Usage, called: bool) -> dict[str, str | None]:
    """Why an answer ended, in Anthropic's words."""
    if called:
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if finish in ("length", "context"):
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if usage.stop:
        return {"stop_reason": "stop_sequence", "stop_sequence": usage.stop}
    return {"stop_reason": "end_turn", "stop_sequence": None}


def counted(usage: Usage) -> dict[str, int]:
    """Counts of tokens; those found in the cache are told apart from the input."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.tokens,
    }


def mark(prefix: str) -> str:
    """A name that nothing else has."""
    return prefix + secrets.token_hex(12)
