"""A response as a document: what was asked, the items that answer it, and what they took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from h2q.core.events import Part, Usage
from h2q.server.openai.shapes import ResponseRequest
from h2q.server.openai.words import mark

Document = dict[str, Any]
CUT = "max_output_tokens"


class Response:
    """One response; `document` words it at any moment of its life."""

    def __init__(self, given: ResponseRequest, options: dict[str, Any]) -> None:
        self._fields: Document = {
            "id": mark("resp_"),
            "object": "response",
            "created_at": int(time.time()),
            "background": False,
            "instructions": given.instructions or None,
            "max_output_tokens": given.max_output_tokens,
            "metadata": given.metadata,
            "model": given.model,
            "parallel_tool_calls": given.parallel_tool_calls,
            "previous_response_id": None,
            "reasoning": {
                "effort": given.reasoning.get("effort"),
                "summary": given.reasoning.get("summary"),
            },
            "store": False,
            "temperature": options["temperature"],
            "text": {"format": given.text.get("format") or {"type": "text"}},
            "tool_choice": given.tool_choice or "auto",
            "tools": given.tools,
            "top_p": options["top_p"],
            "truncation": "auto",
        }

    def document(
        self,
        status: str,
        output: Sequence[Document] = (),
        usage: Document | None = None,
        error: Document | None = None,
    ) -> Document:
        """The response so far. An incomplete one was cut off by its bound of tokens."""
        incomplete = {"reason": CUT} if status == "incomplete" else None
        return {
            **self._fields,
            "status": status,
            "error": error,
            "incomplete_details": incomplete,
            "output": list(output),
            "usage": usage,
        }


def status_of(finish: str) -> str:
    """What an end means for the response."""
    return "completed" if finish == "stop" else "incomplete"


def usage_of(usage: Usage, reasoning: int) -> Document:
    """Counts of tokens; those of the reasoning are among the output's."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": usage.prompt_tokens + usage.tokens,
    }


def text_part(text: str, logprobs: Sequence[Document] = ()) -> Document:
    """The part of a message that is text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def message_item(
    name: str, status: str, text: str | None, logprobs: Sequence[Document] = ()
) -> Document:
    """What the model says to the reader; None while there is no text yet."""
    content = [] if text is None else [text_part(text, logprobs)]
    return {
        "type": "message",
        "id": name,
        "status": status,
        "role": "assistant",
        "content": content,
    }


def reasoning_item(name: str, text: str | None) -> Document:
    """What the model says to itself."""
    summary = [] if text is None else [{"type": "summary_text", "text": text}]
    return {"type": "reasoning", "id": name, "summary": summary}


def call_item(name: str, call_id: str, status: str, part: Part, arguments: str) -> Document:
    """A call."""
    return {
        "type": "function_call",
        "id": name,
        "call_id": call_id,
        "name": part.name,
        "arguments": arguments,
        "status": status,
    }
