"""The endpoints of Anthropic's API, in one list, and its errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from h2q.server.dialect import Route
from h2q.server.refusal import Refusal
from h2q.server.reply import Reply, json_reply
from h2q.server.sse import STREAM

HERE = "h2q.server.anthropic."
TOLD = HERE + "told:"
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


class Anthropic:
    """The dialect."""

    name = "Anthropic"
    refuses = TOLD + "AnthropicError"

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "POST",
                "/v1/messages",
                HERE + "messages:messages",
                "Answer a conversation.",
                takes=HERE + "shapes:MessagesRequest",
                gives=TOLD + "AnthropicMessage",
                streams=STREAM,
                pieces=TOLD + "MessageEvent",
            ),
            Route(
                "POST",
                "/v1/messages/count_tokens",
                HERE + "messages:count_tokens",
                "How many tokens a conversation has.",
                takes=HERE + "shapes:CountRequest",
                gives=TOLD + "TokenCount",
            ),
        )

    def error(self, refusal: Refusal) -> Reply:
        return json_reply(error_of(refusal), refusal.status, refusal.headers)


def error_of(refusal: Refusal) -> dict[str, Any]:
    """A refusal as Anthropic tells it."""
    status = refusal.status
    kind = KINDS.get(status, "invalid_request_error" if 400 <= status < 499 else "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": refusal.message},
        "request_id": f"req_{refusal.id}",
    }
