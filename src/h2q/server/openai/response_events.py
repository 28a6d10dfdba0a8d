"""The events of a streamed response, numbered in their order.

Items open and close one after the other: reasoning, a message, calls, as the model makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2q.core.events import Part, TokenEvent, Usage
from h2q.server.forced_call import Parts
from h2q.server.openai.response_document import (
    Document,
    Response,
    call_item,
    message_item,
    reasoning_item,
    status_of,
    text_part,
    usage_of,
)
from h2q.server.openai.words import logprobs_of, mark, reasons
from h2q.server.sse import MEDIA_TYPE, event

if TYPE_CHECKING:
    from h2q.orchestrator.house import Lease
    from h2q.server.refusal import Refusal


class ResponseEvents:
    """A formatter for one response. `top`: alternatives to tell, None for no log-probabilities."""

    media_type = MEDIA_TYPE

    def __init__(self, response: Response, forced: bool, top: int | None) -> None:
        self._response, self._top, self._parts = response, top, Parts(forced)
        self._number = 0
        self._output = list[Document]()
        self._open, self._item, self._texts = "", "", list[str]()
        self._logprobs = list[Document]()
        self._waiting = list[Document]()
        self._reasoning = 0

    def begin(self, lease: Lease) -> bytes:
        document = self._response.document("in_progress")
        return self._event("created", response=document) + self._event(
            "in_progress", response=document
        )

    def token(self, told: TokenEvent) -> bytes:
        self._reasoning += told.token >= 0 and reasons(told)
        if self._top is not None:
            self._waiting += logprobs_of((told,), self._top)
        pieces = [self._say(part) for part in self._parts.of(told)]
        if told.finish:
            said = self._open == "content" or any(i["type"] != "reasoning" for i in self._output)
            if not said:
                pieces.append(self._close("completed") + self._begin("content"))
            pieces.append(self._close("incomplete" if told.finish != "stop" else "completed"))
            pieces.append(self._end(told.finish, told.usage or Usage(0, 0)))
        return b"".join(pieces)

    def failed(self, refusal: Refusal) -> bytes:
        error = {"code": "server_error", "message": refusal.message}
        document = self._response.document("failed", self._output, error=error)
        return self._event("failed", response=document)

    def _say(self, part: Part) -> bytes:
        if part.kind == "tool_call":
            return self._close("completed") + self._call(part)
        opening = b""
        if self._open != part.kind:
            opening = self._close("completed") + self._begin(part.kind)
        self._texts.append(part.text)
        if part.kind == "reasoning":
            return opening + self._about(
                "reasoning_summary_text.delta", summary_index=0, delta=part.text
            )
        logprobs, self._waiting = self._waiting, []
        self._logprobs += logprobs
        return opening + self._about(
            "output_text.delta", content_index=0, delta=part.text, logprobs=logprobs
        )

    def _begin(self, kind: str) -> bytes:
        self._open, self._texts, self._logprobs = kind, [], []
        if kind == "reasoning":
            self._item = mark("rs_")
            part = {"type": "summary_text", "text": ""}
            return self._added(reasoning_item(self._item, None)) + self._about(
                "reasoning_summary_part.added", summary_index=0, part=part
            )
        self._item = mark("msg_")
        return self._added(message_item(self._item, "in_progress", None)) + self._about(
            "content_part.added", content_index=0, part=text_part("")
        )

    def _close(self, status: str) -> bytes:
        """End the open item, if there is one."""
        kind, text, self._open = self._open, "".join(self._texts), ""
        if kind == "reasoning":
            part = {"type": "summary_text", "text": text}
            said = self._about("reasoning_summary_text.done", summary_index=0, text=text)
            said += self._about("reasoning_summary_part.done", summary_index=0, part=part)
            return said + self._done(reasoning_item(self._item, text))
        if kind == "content":
            done = text_part(text, self._logprobs)
            said = self._about(
                "output_text.done", content_index=0, text=text, logprobs=self._logprobs
            )
            said += self._about("content_part.done", content_index=0, part=done)
            return said + self._done(message_item(self._item, status, text, self._logprobs))
        return b""

    def _call(self, part: Part) -> bytes:
        self._item, call_id = mark("fc_"), mark("call_")
        said = self._added(call_item(self._item, call_id, "in_progress", part, ""))
        said += self._about("function_call_arguments.delta", delta=part.text)
        said += self._about("function_call_arguments.done", name=part.name, arguments=part.text)
        return said + self._done(call_item(self._item, call_id, "completed", part, part.text))

    def _end(self, finish: str, usage: Usage) -> bytes:
        status = status_of(finish)
        document = self._response.document(status, self._output, usage_of(usage, self._reasoning))
        return self._event(status, response=document)

    def _added(self, item: Document) -> bytes:
        return self._event("output_item.added", output_index=len(self._output), item=item)

    def _done(self, item: Document) -> bytes:
        said = self._event("output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        return said

    def _about(self, kind: str, **fields: Any) -> bytes:
        """An event about the item that is open."""
        place = len(self._output)
        return self._event(kind, item_id=self._item, output_index=place, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        name = f"response.{kind}"
        document = {"type": name, "sequence_number": self._number, **fields}
        self._number += 1
        return event(name, document)
