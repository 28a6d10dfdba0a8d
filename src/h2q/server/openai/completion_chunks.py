"""The chunks of a streamed text completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from h2q.core.events import TokenEvent, Usage
from h2q.server.openai.routes import error_of
from h2q.server.openai.words import REASONS, logprobs_of, reasons, usage_of
from h2q.server.sse import DONE, MEDIA_TYPE, data
from h2q.server.streaming import parts_of

if TYPE_CHECKING:
    from h2q.orchestrator.house import Lease
    from h2q.server.refusal import Refusal


class CompletionChunks:
    """A formatter for one answer; see ChatChunks. Reasoning is not part of a completion."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        fields: dict[str, Any],
        index: int,
        top: int | None,
        split: bool,
        usage: bool,
        alone: bool,
    ) -> None:
        self._fields, self._index, self._top, self._split = fields, index, top, split
        self._usage, self._alone, self._offset = usage, alone, 0
        self.reasoning = 0

    def begin(self, lease: Lease) -> bytes:
        return b""

    def token(self, event: TokenEvent) -> bytes:
        parts = parts_of(event, self._split)
        text = "".join(part.text for part in parts if part.kind == "content")
        piece = b""
        self.reasoning += event.token >= 0 and reasons(event)
        told = self._top is not None and event.token >= 0 and not reasons(event)
        if text or told:
            logprobs = legacy_logprobs((event,), self._top or 0, self._offset) if told else None
            piece = self._chunk(text, None, logprobs)
        self._offset += len(text)
        if event.finish:
            piece += self._chunk("", REASONS.get(event.finish, event.finish), None)
            if self._alone:
                piece += ending(
                    self._fields, event.usage or Usage(0, 0), self.reasoning, self._usage
                )
        return piece

    def _chunk(self, text: str, reason: str | None, logprobs: Any) -> bytes:
        choice = {
            "index": self._index,
            "text": text,
            "finish_reason": reason,
            "logprobs": logprobs,
        }
        document = {**self._fields, "choices": [choice]}
        if self._usage:
            document["usage"] = None
        return data(document)

    def failed(self, refusal: Refusal) -> bytes:
        return data({"error": error_of(refusal)}) + DONE


def ending(fields: dict[str, Any], usage: Usage, reasoning: int, wanted: bool) -> bytes:
    """What follows the last answer."""
    if not wanted:
        return DONE
    return data({**fields, "choices": [], "usage": usage_of(usage, reasoning)}) + DONE


def legacy_logprobs(events: Sequence[TokenEvent], top: int, offset: int = 0) -> dict[str, Any]:
    """Log-probabilities as completions had them before chat, and as chat has them. `offset`: of
    the first token's text in the answer.
    """
    content = logprobs_of(events, top)
    offsets = list[int]()
    for item in content:
        offsets.append(offset)
        offset += len(item["token"])
    return {
        "tokens": [item["token"] for item in content],
        "token_logprobs": [item["logprob"] for item in content],
        "top_logprobs": [
            {one["token"]: one["logprob"] for one in item["top_logprobs"]} for item in content
        ],
        "text_offset": offsets,
        "content": content,
    }
